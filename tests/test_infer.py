"""The command `mien infer`: odd input works, bad input gets one sentence and leaves nothing."""

import errno
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from mien.command_line import INTERRUPTED, TERMINATED
from mien.errors import UserError
from mien.infer import main
from mien.jobs import Job, run_jobs
from mien.kinds import read_weights, save_weights
from mien.media import Sound, read_video, section
from mien.motion.sampling import SamplingConfig
from tests.audio.test_voice_activity import NO_SPEECH
from tests.conftest import ROOT
from tests.tiny_nets import BOX, save_net, save_tiny_pair, voice, write_portrait, write_wav

FACE = ",".join(f"{number:g}" for number in BOX)


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> list[str]:
    animator, speech = save_tiny_pair(tmp_path_factory.mktemp("weights"))
    return ["--animator", str(animator), "--speech", str(speech), "--steps", "2"]


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A working directory with a sound and a picture."""
    monkeypatch.chdir(tmp_path)
    write_wav(tmp_path / "voice.wav", voice(1.0))
    write_portrait(tmp_path / "portrait.png")
    (tmp_path / "notes.txt").write_text("no picture, no sound")
    (tmp_path / "samples.raw").write_bytes(bytes(100))
    (tmp_path / "empty.wav").touch()
    (tmp_path / "empty.png").touch()
    (tmp_path / "there.mp4").write_bytes(b"an earlier result")
    write_wav(tmp_path / "short.wav", voice(0.03))
    return tmp_path


def streams(path: Path) -> tuple[str, str, float, float, float]:
    """Codecs, frames a second, and seconds of picture and of sound."""
    with av.open(str(path)) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        frames = sum(1 for _ in container.decode(video))
        container.seek(0)
        samples = sum(frame.samples for frame in container.decode(audio))
        rate = float(video.average_rate or 0)
        return (
            video.codec_context.name,
            audio.codec_context.name,
            rate,
            frames / rate,
            samples / audio.codec_context.sample_rate,
        )


def test_a_voice_and_a_portrait_become_a_video_named_after_the_voice(folder, weights, capsys):
    assert main(["voice.wav", "portrait.png", "--box", FACE, *weights]) == 0
    video, audio, rate, seconds, sounding = streams(folder / "voice.mp4")
    assert (video, audio, rate) == ("h264", "aac", 25.0)
    assert seconds == pytest.approx(1.0)
    assert sounding == pytest.approx(1.0, abs=0.1)  # AAC pads to whole blocks of 1024
    printed = capsys.readouterr().out
    sampled = "multistep, 2 steps, guidance 1.25, seed 0"
    for part in ("voice.mp4", "1.00 s, 25 frames", "per second of video", "torch", sampled):
        assert part in printed


def test_motion_is_sampled_as_in_training_but_for_what_is_asked(folder, weights, capsys):
    speech = Path(weights[weights.index("--speech") + 1])
    trained = SamplingConfig(steps=9, sampler="ddim", guidance=2.0)
    save_weights(folder / "ddim", replace(read_weights(speech), sampling=asdict(trained)))
    asked = ["voice.wav", "portrait.png", "--box", FACE, *weights, "--speech", "ddim"]
    assert main(asked) == 0
    assert "ddim, 2 steps, guidance 2, seed 0" in capsys.readouterr().out


@pytest.mark.real_world("outputs")
def test_names_with_spaces_quotes_and_letters_of_other_languages(folder, weights):
    odd = folder / "a 'voice' \"ünï\" 声.wav"
    (folder / "voice.wav").rename(odd)
    picture = folder / "pörträt $HOME; 1.png"
    (folder / "portrait.png").rename(picture)
    result = folder / "out put é.mp4"
    assert main([str(odd), str(picture), "-o", str(result), "--box", FACE, *weights]) == 0
    assert len(read_video(result)) == 25


def test_overwrite_replaces_and_only_when_asked(folder, weights, capsys):
    asked = ["voice.wav", "portrait.png", "-o", "there.mp4", "--box", FACE, *weights]
    assert main(asked) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert (folder / "there.mp4").read_bytes() == b"an earlier result"
    assert main([*asked, "--overwrite"]) == 0
    assert streams(folder / "there.mp4")[0] == "h264"


def test_stereo_at_48_khz_and_a_grey_picture(folder, weights):
    sound = np.stack([voice(1.0, 48_000)] * 2, axis=1)
    write_wav(folder / "stereo.wav", sound, 48_000)
    Image.open("portrait.png").convert("L").save("grey.png")
    assert main(["stereo.wav", "grey.png", "--box", FACE, *weights]) == 0
    assert streams(folder / "stereo.mp4")[3] == pytest.approx(1.0)


def test_the_sound_of_a_video_is_a_voice(folder, weights):
    assert main(["voice.wav", "portrait.png", "-o", "first.mp4", "--box", FACE, *weights]) == 0
    assert main(["first.mp4", "portrait.png", "-o", "second.mp4", "--box", FACE, *weights]) == 0
    # The AAC of the first pads its sound to whole blocks.
    assert streams(folder / "second.mp4")[3] == pytest.approx(1.0, abs=0.1)


BAD = {
    "missing audio": (["nothing.wav", "portrait.png"], "nothing.wav"),
    "missing picture": (["voice.wav", "nothing.png"], "nothing.png"),
    "a folder as audio": ([".", "portrait.png"], "."),
    "a folder as picture": (["voice.wav", "."], "."),
    "text as audio": (["notes.txt", "portrait.png"], "notes.txt"),
    "text as picture": (["voice.wav", "notes.txt"], "notes.txt"),
    "raw samples": (["samples.raw", "portrait.png"], "samples.raw"),
    "empty audio": (["empty.wav", "portrait.png"], "empty.wav"),
    "empty picture": (["voice.wav", "empty.png"], "empty.png"),
    "shorter than a frame": (["short.wav", "portrait.png"], "30 ms"),
    "no face": (["voice.wav", "portrait.png"], "--box x0,y0,x1,y1"),
    "mixed up": (["portrait.png", "voice.wav"], "the audio comes first"),
    "missing folder": (["voice.wav", "portrait.png", "-o", "no/where.mp4"], "no of the output"),
    "existing output": (["voice.wav", "portrait.png", "-o", "there.mp4"], "--overwrite"),
    "output is a folder": (["voice.wav", "portrait.png", "-o", "folder.mp4"], "folder.mp4"),
    "output is no mp4": (["voice.wav", "portrait.png", "-o", "out.gif"], ".mp4"),
    "output is the audio": (["there.mp4", "portrait.png", "--overwrite"], "input as well"),
    "box without numbers": (["voice.wav", "portrait.png", "--box", "a,b,c,d"], "a,b,c,d"),
    "empty box": (["voice.wav", "portrait.png", "--box", "9,9,9,9"], "9,9,9,9"),
    "box outside": (["voice.wav", "portrait.png", "--box", "0,0,500,500"], "150 x 200"),
    "steps of zero": (["voice.wav", "portrait.png", "--steps", "0"], "--steps"),
    "negative seed": (["voice.wav", "portrait.png", "--seed", "-1"], "--seed: -1 is no seed"),
    "seed of a hundred bits": (["voice.wav", "portrait.png", "--seed", str(2**100)], "64 bits"),
    "steps in words": (["voice.wav", "portrait.png", "--steps", "many"], "many"),
    "guidance of nothing": (["voice.wav", "portrait.png", "--guidance", "nan"], "nan"),
    "no arguments": ([], "audio"),
    "still head that moves": (
        ["voice.wav", "portrait.png", "--still-head", "--pose-scale", "1"],
        "--pose-scale",
    ),
    "still head by another engine": (
        ["voice.wav", "portrait.png", "--still-head", "--engine", "onnxruntime"],
        "leave out --engine",
    ),
    "unknown engine": (["voice.wav", "portrait.png", "--engine", "warp"], "'warp'"),
    "part of an option": (["voice.wav", "portrait.png", "--engin", "torch"], "--engin torch"),
    "unknown option": (["voice.wav", "portrait.png", "--fast"], "--fast"),
    "missing weights": (["voice.wav", "portrait.png", "--animator", "no.ckpt"], "no.ckpt"),
    "foreign weights": (["voice.wav", "portrait.png", "--animator", "notes.txt"], "notes.txt"),
}


@pytest.mark.parametrize("arguments, printed", BAD.values(), ids=BAD.keys())
def test_bad_input_gets_one_sentence_and_leaves_nothing(
    arguments, printed, folder, weights, capsys
):
    (folder / "folder.mp4").mkdir()
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    fitting = [] if "--animator" in arguments else weights
    assert main([*arguments, *fitting]) == 1

    out, error = capsys.readouterr()
    assert error.startswith("error: ")
    assert error.count("\n") == 1, error
    assert printed in error
    assert not out and "Traceback" not in error
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


# Before torch is imported, then before the nets are.
AT_ONCE = [
    ["infer", "nothing.wav", "portrait.png"],
    ["infer", "voice.wav", "portrait.png", "--fast"],
    ["infer", "voice.wav", "portrait.png", "--animator", "no.ckpt"],
    ["infer", "--jobs", "nothing.csv"],
    ["reenact", "there.mp4", "portrait.png", "--system", "loki", "--loki", "no.ckpt"],
    ["drive-arkit", "nothing.csv", "portrait.png"],
]
BEFORE_NETS = [
    ["infer", "notes.txt", "portrait.png"],
    ["infer", "voice.wav", "notes.txt"],
    ["infer", "portrait.png", "voice.wav"],
    ["reenact", "notes.txt", "portrait.png"],
]


def test_what_inference_imports_needs_no_scipy():
    """Importing scipy.spatial takes a third of a second; only fitted faces need it."""
    work = "import sys, mien.session, mien.pipeline, mien.infer; print('scipy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", work], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize(
    "commands, unused", [(AT_ONCE, ("torch", "av")), (BEFORE_NETS, ("mien.session", "numba"))]
)
def test_what_can_be_refused_at_once_waits_for_no_import(commands, unused, folder):
    work = (
        "import sys; from mien.cli import main; "
        f"assert [main(c) for c in {commands}] == [1] * {len(commands)}; "
        f"print([name for name in {unused} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", work], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n" and done.stderr.count("error: ") == len(commands)


def test_an_engine_that_is_not_installed_is_refused_at_once(folder):
    inputs = [["infer", "voice.wav", "portrait.png"], ["infer", "--jobs", "voice.wav"],
              ["reenact", "there.mp4", "portrait.png"],
              ["drive-arkit", "notes.txt", "portrait.png"]]  # fmt: skip
    commands = [[*given, "--engine", "openvino"] for given in inputs]
    work = (
        "import sys; sys.modules['openvino'] = None; from mien.cli import main; "
        f"print([main(c) for c in {commands}], 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", work], capture_output=True, text=True, check=True)
    assert done.stdout == "[1, 1, 1, 1] False\n"
    sentence = 'openvino is not installed: pip install "mien[fast]", or leave out --engine'
    assert done.stderr.count(sentence) == len(commands)


def test_a_folder_that_cannot_be_written_is_told(folder, weights, capsys):
    # /proc refuses new files to everybody, the superuser included.
    asked = ["voice.wav", "portrait.png", "-o", "/proc/out.mp4", "--box", FACE, *weights]
    assert main(asked) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and "/proc" in error


def test_damaged_weights_and_a_foreign_pair_are_told(folder, weights, capsys):
    animator = Path(weights[1])
    damaged = folder / "damaged.safetensors"
    damaged.write_bytes(animator.read_bytes()[:-1000])
    speech = ["--speech", weights[3]]
    asked = ["voice.wav", "portrait.png", "--box", FACE]
    assert main([*asked, "--animator", str(damaged), *speech]) == 1
    assert "damaged" in capsys.readouterr().err

    from mien.checkpoint import ANIMATOR
    from tests.portrait.tiny import tiny_animator

    other = folder / "other.safetensors"
    save_net(other, ANIMATOR, tiny_animator(seed=5))
    assert main([*asked, "--animator", str(other), *speech]) == 1
    assert "add --speech FILE, the stage 2" in capsys.readouterr().err


@pytest.mark.parametrize(
    "sent, status", [(signal.SIGINT, INTERRUPTED), (signal.SIGTERM, TERMINATED)], ids=str
)
def test_stopped_in_the_middle_nothing_stays(sent, status, folder, weights):
    write_wav(folder / "long.wav", voice(120.0))
    before = sorted(folder.iterdir())
    command = [sys.executable, str(ROOT / "tools" / "infer.py"), "long.wav", "portrait.png"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [*command, "--box", FACE, *weights],
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        # A suite that runs in the background inherits an ignored Ctrl-C; the command must not.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 120
    while sorted(folder.iterdir()) == before and time.monotonic() < deadline:
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        time.sleep(0.05)
    assert sorted(folder.iterdir()) != before, "nothing was begun"
    process.send_signal(sent)

    _, error = process.communicate(timeout=60)
    assert process.returncode == status
    assert "Traceback" not in error
    assert sorted(folder.iterdir()) == before


class TestShippedWeights:
    """What the checkpoint inside the package must be able to do."""

    @pytest.mark.parametrize("name", ["silence", "pink noise at -45 dBFS", "a chord at -20 dB",
                                      "50 Hz hum at -40 dBFS", "a DC offset"])  # fmt: skip
    @pytest.mark.real_world("sound in which nobody speaks")
    def test_lips_rest_where_nobody_speaks(self, name, shipped, folder):
        from skimage import data

        from mien import animate
        from mien.evaluation import mouth_opening
        from mien.face import FaceMesh

        write_wav(folder / "quiet.wav", NO_SPEECH[name][: 2 * 16_000].numpy())
        animate(folder / "quiet.wav", data.astronaut(), folder / "quiet.mp4", overwrite=True)
        mesh = FaceMesh()
        openings = [mouth_opening(mesh, frame) for frame in read_video(folder / "quiet.mp4")[::4]]
        assert np.std(openings) <= 0.003  # of the distance between the eyes

    def test_the_astronaut_moves_when_she_speaks(self, shipped, folder):
        from skimage import data

        from mien import animate

        animate(folder / "voice.wav", data.astronaut(), folder / "out.mp4", overwrite=True)
        frames = read_video(folder / "out.mp4").astype(float)
        assert np.abs(np.diff(frames, axis=0)).max() > 10

    def test_shipped_weights_fit_one_another_and_thirty_megabytes(self, shipped):
        from mien.session.session import load_models

        animator, speech = load_models()
        assert animator.config.image_size == 256
        assert speech.config.appearance_dim == animator.config.appearance_dim
        assert sum(path.stat().st_size for path in shipped) <= 30 * 2**20
        assert all(torch.isfinite(value).all() for value in animator.state_dict().values())


class TestSection:
    def test_only_the_part_between_start_and_end_is_spoken(self, folder, weights):
        asked = ["voice.wav", "portrait.png", "--box", FACE, *weights]
        assert main([*asked, "--start", "0.2", "--end", "0.68"]) == 0
        _, _, _, seconds, sounding = streams(folder / "voice.mp4")
        assert seconds == pytest.approx(0.48)
        assert sounding == pytest.approx(0.48, abs=0.1)  # AAC pads to whole blocks

    def test_the_part_is_as_the_sound_that_was_cut_by_hand(self):
        sound = Sound(voice(1.0)[None].astype(np.float32), 16_000)
        part = section(sound, 0.25, 9.0)
        np.testing.assert_array_equal(part.samples, sound.samples[:, 4000:])

    @pytest.mark.parametrize(
        "part", [("1.5", "2"), ("0.5", "0.5"), ("0.6", "0.2"), ("0", "0.00001")]
    )
    def test_an_empty_part_is_refused_with_the_length(self, part, folder, weights, capsys):
        asked = ["voice.wav", "portrait.png", "--box", FACE, *weights]
        assert main([*asked, "--start", part[0], "--end", part[1]]) == 1
        error = capsys.readouterr().err
        assert "voice.wav" in error and "lasts 1.00 s" in error and error.count("\n") == 1
        assert not (folder / "voice.mp4").exists()


class TestJobs:
    def test_a_bad_job_is_told_and_the_others_go_on(self, folder, weights, capsys):
        (folder / "jobs.csv").write_text(
            "audio,portrait,output,box,start,end,seed\n"
            f'voice.wav,portrait.png,a.mp4,"{FACE}",,,\n'
            f'nothing.wav,portrait.png,b.mp4,"{FACE}",,,\n'
            f'voice.wav,portrait.png,c.mp4,"{FACE}",5,,\n'
            f'voice.wav,portrait.png,d.mp4,"{FACE}",0.2,0.6,3\n'
        )
        assert main(["--jobs", "jobs.csv", *weights]) == 1
        out, error = capsys.readouterr()
        lines = error.splitlines()
        assert len(lines) == 3 and all(line.startswith("error: ") for line in lines)
        assert "line 3: no file nothing.wav" in lines[0] and "lasts 1.00 s" in lines[1]
        assert "2 of 4 jobs failed" in lines[2]
        assert len(read_video(folder / "a.mp4")) == 25 and len(read_video(folder / "d.mp4")) == 10
        assert not (folder / "b.mp4").exists() and not (folder / "c.mp4").exists()
        assert "2 written, 0 there already, 2 failed" in out

    @pytest.mark.parametrize(
        "error, sentence",
        [
            (MemoryError(), "memory does not suffice"),
            (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), "memory"),
            (torch.OutOfMemoryError("CUDA out of memory. Tried to"), "memory does not suffice"),
            (OSError(errno.ENOSPC, "No space left on device"), "the disk is full"),
            (IndexError("list index\nout of range"), "IndexError (list index out of range)"),
            (ModuleNotFoundError("No module", name="onnxscript"), "needs the package onnxscript"),
        ],
    )
    def test_no_error_of_one_job_ends_the_list(self, error, sentence, capsys):
        made = []

        def make(job: Job) -> str:
            if job.line == 2:
                raise error
            made.append(job.output)
            return "fine"

        jobs = [Job(line, Path(f"/nowhere/{line}.mp4"), {}) for line in (2, 3)]
        with pytest.raises(UserError, match="1 of 2 jobs failed"):
            run_jobs(jobs, make)
        printed = capsys.readouterr().err
        assert made == [jobs[1].output]
        assert "error: 1 of 2, line 2: " in printed and sentence in printed
        assert printed.count("\n") == 1

    def test_what_is_there_is_skipped_and_the_rest_is_made(self, folder, weights, capsys):
        rows = "".join(f'voice.wav,portrait.png,{name}.mp4,"{FACE}"\n' for name in ("there", "new"))
        (folder / "jobs.csv").write_text("audio,portrait,output,box\n" + rows)
        assert main(["--jobs", "jobs.csv", "--end", "0.4", *weights]) == 0
        assert "1 written, 1 there already, 0 failed" in capsys.readouterr().out
        assert (folder / "there.mp4").read_bytes() == b"an earlier result"
        assert len(read_video(folder / "new.mp4")) == 10

    def test_a_job_makes_the_bytes_of_the_single_command(self, folder, weights):
        (folder / "jobs.csv").write_text(
            f'audio,portrait,output,box,seed\nvoice.wav,portrait.png,a.mp4,"{FACE}",2\n'
        )
        assert main(["--jobs", "jobs.csv", *weights]) == 0
        single = ["voice.wav", "portrait.png", "-o", "b.mp4", "--seed", "2", "--box", FACE]
        assert main([*single, *weights]) == 0
        assert (folder / "a.mp4").read_bytes() == (folder / "b.mp4").read_bytes()

    @pytest.mark.parametrize(
        "text, printed",
        [
            ("audio,portrait\nvoice.wav,portrait.png\n", "no column output"),
            ("audio,portrait,output,mood\n", "unknown column mood"),
            ("audio,portrait,output\nvoice.wav,,a.mp4\n", "line 2 of jobs.csv has no portrait"),
            ("audio,portrait,output\na,b,c.mp4\na,b,c.mp4\n", "lines 2 and 3"),
            ("audio;portrait;output\na;b;c.mp4\n", "'audio;portrait;output': separate columns"),
            ("audio,portrait,output,seed\na,b,c.mp4,x\n", "line 2 of jobs.csv: x is no seed"),
            ("audio,portrait,output,seed\na,b,c.mp4,-1\n", "a whole number, 0 or above"),
            ("audio,portrait,output,start\na,b,c.mp4,many\n", "many is not a number"),
        ],
    )
    def test_a_file_that_is_no_list_of_jobs_is_refused(self, text, printed, folder, capsys):
        (folder / "jobs.csv").write_text(text)
        # Weights that do not exist: the list is refused before nets are loaded.
        assert main(["--jobs", "jobs.csv", "--animator", "no.ckpt"]) == 1
        error = capsys.readouterr().err
        assert printed in error and error.count("\n") == 1

    def test_inputs_beside_the_list_are_refused(self, folder, weights, capsys):
        assert main(["voice.wav", "portrait.png", "--jobs", "jobs.csv", *weights]) == 1
        assert "--jobs" in capsys.readouterr().err


def test_the_command_offers_the_samplers_that_there_are():
    from typing import get_args, get_type_hints

    from mien.infer import SAMPLERS

    assert get_args(get_type_hints(SamplingConfig)["sampler"]) == SAMPLERS
