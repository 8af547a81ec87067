"""Metrics as files: found by themselves, kept apart by level, with the figures they always had."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from mien.audio.voice_activity import frame_loudness
from mien.cli import main
from mien.data.datasets import to_picture
from mien.data.drawn import write_clips
from mien.data.meshes import face_mesh
from mien.devices import FULL, MIXED
from mien.errors import UserError
from mien.evaluation import (
    ClipMetric,
    Comparison,
    FrameMetric,
    SetMetric,
    Suite,
    Task,
    TrackedClip,
    all_metrics,
    metrics,
)
from mien.evaluation.clips import track_frames
from mien.evaluation.reenact import compare, redraw
from mien.evaluation.speech import say
from mien.media import load_audio, read_video, to_bytes
from mien.ops.interpolation import at_frames
from tests.portrait.tiny import pictures
from tests.tiny_nets import save_tiny_pair, tiny_pair, voice

MADE_UP = '''
"""A metric in one file."""

import torch

from mien.evaluation.comparison import Task
from mien.evaluation.metric import ClipMetric, FrameMetric, SetMetric
from mien.errors import UserError


class Brightness(FrameMetric):
    """How bright each frame is, in grey levels."""

    name = "brightness"
    tasks = frozenset({Task.REENACT})

    def of_frames(self, pair):
        return torch.from_numpy(pair.clip.frames).float().mean(dim=(1, 2, 3))


class Count(SetMetric):
    """How many clips there are."""

    name = "count"

    def features(self, pair):
        return pair.clip.points[:1, 0]

    def of_set(self, clips, references):
        return float(len(clips) + 10 * len(references))


class Elsewhere(ClipMetric):
    """It belongs to another task."""

    name = "elsewhere"
    tasks = frozenset({Task.CROSS})

    def of_clip(self, pair):
        return 1.0


class Uninstalled(ClipMetric):
    """It needs what is not there."""

    name = "uninstalled"

    def __init__(self):
        raise UserError("install it")

    def of_clip(self, pair):
        return 1.0
'''


@pytest.fixture
def made_up(tmp_path, monkeypatch) -> None:
    """One more file among the metrics."""
    (tmp_path / "metrics").mkdir()
    (tmp_path / "metrics" / "made_up.py").write_text(MADE_UP)
    monkeypatch.setattr(metrics, "__path__", [*metrics.__path__, str(tmp_path / "metrics")])
    monkeypatch.setattr("mien.evaluation.metrics.identity.FaceIdentity", _missing)


def _missing():
    raise UserError("it is not there")


@pytest.mark.usefixtures("made_up")
def test_one_file_is_all_that_a_metric_needs(tmp_path, capsys):
    write_clips(tmp_path, "valid", people=2, clips=1, frames=12, size=64, seed=0)
    weights, _ = save_tiny_pair(tmp_path)
    asked = ["--root", str(tmp_path), "--manifest", "valid.jsonl", "--animator", str(weights)]
    assert main(["evaluate", "reenact", *asked, "--stride", "4", "-o", str(tmp_path / "out")]) == 0
    figures = json.loads((tmp_path / "out" / "scores.json").read_text())
    page, table = (tmp_path / "out" / "index.html").read_text(), capsys.readouterr().out
    for text in (page, table):
        assert "brightness" in text and "count" in text
        assert "elsewhere" not in text
        assert "uninstalled is left out: install it" in text
    assert "brightness: How bright each frame is, in grey levels." in page
    rows = figures["clips"]["valid/valid-0-0.mp4"]
    frames = read_video(tmp_path / "valid" / "valid-0-0.mp4", 64)[4::4]
    assert rows["real"]["brightness"] == pytest.approx(frames.mean(), abs=0.01)
    assert rows["drawn"]["uninstalled"] is None and "elsewhere" not in rows["drawn"]
    assert figures["all clips"]["drawn"]["count"] == 22
    assert "brightness" in figures["means"]["mean over people"]["copied"]


def test_levels_are_told_apart_by_type_and_say_what_they_mean():
    found = all_metrics()
    level_of = {kind.name: kind.__bases__[0] for kind in found if not issubclass(kind, SetMetric)}
    for name in ("psnr", "ssim", "l1", "mouth", "face", "outside", "identity"):
        assert level_of[name] is FrameMetric
    for name in ("gap", "fast", "closed", "sharpness", "tremble", "joins", "silence", "sync"):
        assert level_of[name] is ClipMetric
    sets = {kind.name for kind in found if issubclass(kind, SetMetric)}
    followed = {"head_pose", "head_pose_in_head", "expression"}
    assert sets == {"closed", "closed_off", "diversity"} | followed
    for kind in found:
        assert kind.__doc__ and len(kind.meaning()) > len(kind.name) + 12, kind
        assert kind.tasks <= frozenset(Task)


def test_two_metrics_of_one_name_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(metrics, "__path__", [*metrics.__path__, str(tmp_path)])
    (tmp_path / "twice.py").write_text(MADE_UP.replace('"brightness"', '"psnr"'))
    with pytest.raises(ValueError, match="both named psnr"):
        all_metrics()


def test_what_has_not_as_many_frames_is_not_compared():
    clip = TrackedClip(np.zeros((3, 2, 2, 3), np.uint8), np.zeros((3, 468, 3), np.float32))
    with pytest.raises(ValueError, match="3 frames cannot be compared with 2"):
        Comparison(Task.SPEECH, clip, clip.part(0, 2), clip.part(0, 1))


def test_gaps_are_filled_along_straight_lines():
    known, every = np.array([1, 4]), np.arange(6)
    assert at_frames(np.array([1.0, 4.0]), known, every).tolist() == [1, 1, 2, 3, 4, 4]
    rows = at_frames(np.array([[1, 10], [4, 40]], np.float32), known, every)
    assert rows.dtype == np.float32 and rows[:, 1].tolist() == [10, 10, 20, 30, 40, 40]


# What commit 2749596 said of these frames, before a metric was a file.
SPEECH = {
    "gap": 0.6765217866334728, "fast": 0.4409269452747605, "width": 0.7601375429043797,
    "spread": 0.5358989512469086, "closed": 0.6666666666666666, "closed_off": 0.6, "sounds": 3.0,
    "silence": 0.46756785398791917, "joins": 1.194725513458252, "sync": -0.01857680234744184,
    "sharpness": 0.7790203315096355, "tremble": 0.9275026168088185, "identity": 0.2946023941040039,
}  # fmt: skip
CROSS = {
    "gap": 0.6765217866334728, "gap_slope": 0.3625473159525629, "width": 0.7601375429043797,
    "width_slope": 0.6196206292415123, "smallest": 0.07091885805130005,
    "rest": 0.07931315153837204, "tremble": 0.9275026168088185, "sharpness": 0.7766812722730354,
    "identity": 0.2946023941040039,
}  # fmt: skip
REENACT = {
    "psnr": 24.13377571105957, "ssim": 0.711548924446106, "l1": 0.037638381123542786,
    "mouth": 0.019319793209433556, "face": 29.042274475097656, "outside": 23.685110092163086,
    "sharpness": 0.7740564285298265, "tremble": 0.9275026168088185, "identity": 0.2946023941040039,
}  # fmt: skip


@pytest.mark.footage
@pytest.mark.parametrize("task", [Task.SPEECH, Task.CROSS, Task.REENACT])
def test_figures_of_real_frames_are_those_before_the_package(footage: Path, task: Task):
    """Drawn: a real clip a frame late, blurred and brighter."""
    path = footage / "valid" / "hdtf_RD4.mp4"
    real = to_picture(torch.from_numpy(read_video(path, 256)[25:55]))
    late = torch.cat((real[:1], real[:-1]))
    blurred = F.avg_pool2d(F.pad(late, (2, 2, 2, 2), mode="replicate"), 5, stride=1) * 1.02
    reference, drawn = (track_frames(face_mesh(), to_bytes(x), x) for x in (real, blurred))
    mouth = torch.zeros(1, 256, 256)
    mouth[:, 150:215, 90:170] = 1
    pair = Comparison(
        task, drawn, reference, reference.part(0, 1), mouth_map=mouth,
        loudness=frame_loudness(load_audio(path)[25 * 640 : 55 * 640], 30),
        speaking=np.repeat((1.0, 0.0), 15), closures=np.array([3, 12, 20]),
        motion=torch.from_numpy(reference.points[:, :20, :2].reshape(1, 30, 40)),
        joins=(8, 9, 20),
    )  # fmt: skip
    suite = Suite(task, "real")
    before = {Task.SPEECH: SPEECH, Task.CROSS: CROSS, Task.REENACT: REENACT}[task]
    scores = suite.score({"drawn": pair, "real": replace(pair, clip=reference)})["drawn"]
    if suite.notes:
        before = {name: value for name, value in before.items() if name != "identity"}
    assert {name: scores[name] for name in before} == pytest.approx(before, rel=1e-4)


def test_a_clip_is_redrawn_in_bfloat16_where_asked():
    frames = pictures(5)
    full, mixed = (redraw(tiny_pair()[0], frames, precision) for precision in (FULL, MIXED))
    assert mixed.dtype == torch.float32
    assert not torch.equal(full, mixed)
    assert float((full - mixed).abs().mean()) < 0.01


def test_a_portrait_speaks_in_bfloat16_where_asked():
    animator, speech = tiny_pair()
    sound = torch.from_numpy(np.asarray(voice(1.2), np.float32))
    full, mixed = (
        say(animator, speech, pictures(1), sound, 0, precision) for precision in (FULL, MIXED)
    )
    assert mixed.motion.dtype == torch.float32
    assert not torch.equal(full.motion, mixed.motion)
    assert float((full.motion - mixed.motion).abs().mean()) < 0.1 * float(full.motion.abs().mean())
    assert np.abs(full.frames.astype(int) - mixed.frames).mean() < 4


def gpu_or_skip() -> torch.device:
    if not torch.cuda.is_available():
        pytest.skip("needs an NVIDIA GPU")
    return torch.device("cuda")


@pytest.mark.cuda
@pytest.mark.parametrize("precision", [FULL, MIXED])
def test_scores_on_a_gpu_are_those_on_a_cpu(precision):
    device, frames, mouth = gpu_or_skip(), pictures(5), torch.ones(1, 64, 64)
    suite = Suite(Task.REENACT, "real")
    on_cpu = suite.score(compare(tiny_pair()[0], frames, mouth))
    rows = compare(tiny_pair()[0].to(device), frames, mouth, precision=precision)
    assert rows["drawn"].clip.pictures.is_cuda and rows["drawn"].reference.pictures.is_cuda
    on_gpu = suite.score(rows)
    for name in ("psnr", "ssim", "l1", "mouth"):
        tolerance = 1e-3 if precision == FULL else 0.05
        assert on_gpu["drawn"][name] == pytest.approx(on_cpu["drawn"][name], rel=tolerance)


@pytest.mark.cuda
@pytest.mark.parametrize("precision", [FULL, MIXED])
def test_a_portrait_speaks_on_a_gpu(precision):
    device = gpu_or_skip()
    sound = torch.from_numpy(np.asarray(voice(1.2), np.float32))
    expected = say(*tiny_pair(), pictures(1), sound, 0)
    animator, speech = (net.to(device) for net in tiny_pair())
    said = say(animator, speech, pictures(1), sound, 0, precision)
    assert np.abs(said.frames.astype(int) - expected.frames).mean() < 6
