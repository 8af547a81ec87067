"""The session: inputs in any form, things prepared once, threads, precision, and driving videos."""

import ctypes
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image

from mien.audio.features import FPS, SAMPLE_RATE
from mien.checkpoint import ANIMATOR
from mien.errors import UserError
from mien.media import Sound, VideoWriter, load_picture, probe_video, read_sound, read_video
from mien.mesh.alignment import head_pose
from mien.mesh.motion import read_motion
from mien.mesh.retarget import PortraitMesh, retarget
from mien.motion.controls import Controls
from mien.motion.sampling import SamplingConfig
from mien.reenactment import main as reenact
from mien.session import Session
from mien.session.driving import load_driver
from tests.astronaut import SIDE, write_drifting
from tests.conftest import ROOT
from tests.mesh.faces import in_picture, open_mouth, person
from tests.portrait.tiny import awake, tiny_animator
from tests.test_guided import guided_pair
from tests.tiny_nets import BOX, save_net, tiny_pair, voice, write_portrait, write_wav

FAST = SamplingConfig(steps=2)
ASTRONAUT = skimage.data.astronaut()


def drawn(stream) -> np.ndarray:
    return np.concatenate([frames.pictures for frames in stream])


@pytest.fixture(scope="module")
def session() -> Session:
    return Session(*tiny_pair())


@pytest.fixture(scope="module")
def guided() -> Session:
    return Session(*guided_pair())


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    """26 frames of the astronaut's picture, drifting, with a sound."""
    return write_drifting(tmp_path_factory.mktemp("clips")) / "train" / "a.mp4"


def test_frames_come_with_their_times_and_their_sound(session: Session, tmp_path: Path):
    portrait = session.prepare(write_portrait(tmp_path / "a.png"), BOX)
    stereo = np.stack((voice(1.0, 44_100), 0.5 * voice(1.0, 44_100)), axis=1)
    stream = session.speak(portrait, write_wav(tmp_path / "a.wav", stereo, 44_100), sampling=FAST)
    assert stream.sound is not None
    assert stream.sound.rate == 44_100 and stream.sound.samples.shape == (2, 44_100)
    parts = list(stream)
    times = np.concatenate([frames.times for frames in parts])
    np.testing.assert_allclose(times, np.arange(stream.count) / FPS)
    assert stream.count == 25 == sum(len(frames.pictures) for frames in parts)
    assert set(stream.watch.seconds) >= {"audio", "motion", "render"}


def test_any_form_of_picture_and_sound_gives_the_same_frames(session: Session, tmp_path: Path):
    path = write_portrait(tmp_path / "a.png")
    spoken = voice(1.0).astype(np.float32)
    soundfile = write_wav(tmp_path / "a.wav", spoken)
    samples = read_sound(soundfile).samples[0]
    expected = drawn(session.speak(session.prepare(path, BOX), soundfile, sampling=FAST))
    chunks = (part for part in np.array_split(samples, 7))
    sounds = (
        (samples, SAMPLE_RATE),
        (torch.from_numpy(samples)[None], SAMPLE_RATE),
        (chunks, SAMPLE_RATE),
        ((samples * 32768).round().astype(np.int16), SAMPLE_RATE),
        Sound(samples[None], SAMPLE_RATE),
    )
    for picture in (load_picture(path), Image.open(path)):
        assert (session.prepare(picture, BOX).source == session.prepare(path, BOX).source).all()
    portrait = session.prepare(Image.open(path), BOX)
    for sound in sounds:
        assert (drawn(session.speak(portrait, sound, sampling=FAST)) == expected).all()


@pytest.mark.parametrize(
    "sound, sentence",
    [
        ((np.zeros((SAMPLE_RATE, 2)), SAMPLE_RATE), "channels x samples"),
        ((np.zeros((1, 1, 9)), SAMPLE_RATE), "3 axes"),
        ((np.full(SAMPLE_RATE, np.nan), SAMPLE_RATE), "NaN or infinite samples"),
        ((np.zeros(SAMPLE_RATE), 0), "rate of 0"),
        (([], SAMPLE_RATE), "no chunk"),
        ((np.zeros(SAMPLE_RATE, np.int64), SAMPLE_RATE), "samples of int64"),
        (([np.zeros(900), np.zeros((2, 900))], SAMPLE_RATE), "number of channels"),
        ((np.zeros(5), SAMPLE_RATE), "less than a video frame"),
    ],
)
def test_samples_that_cannot_be_used_are_refused(session: Session, sound, sentence: str):
    with pytest.raises(UserError, match=sentence):
        session.encode(sound)


def test_a_part_that_is_too_short_is_not_called_the_sound(session: Session):
    with pytest.raises(UserError, match="the part of the sound from start to end lasts 20 ms"):
        session.encode((np.zeros(SAMPLE_RATE), SAMPLE_RATE), end=0.02)


def test_unsigned_samples_are_centred_and_half_floats_widened(session: Session):
    wave = np.sin(np.arange(SAMPLE_RATE) / 20) * 0.5
    eight = (128 + 128 * wave).round().astype(np.uint8)
    sound = session.encode((eight, SAMPLE_RATE)).sound
    np.testing.assert_allclose(sound.samples[0], wave, atol=0.01)
    half = session.encode((torch.from_numpy(wave).bfloat16(), SAMPLE_RATE)).sound
    np.testing.assert_allclose(half.samples[0], wave, atol=0.01)


def test_pixels_that_are_no_picture_are_refused(session: Session):
    with pytest.raises(UserError, match="float64 of shape"):
        session.prepare(np.zeros((9, 9, 3)))


def test_a_seed_that_cannot_be_used_is_refused(session: Session, tmp_path: Path):
    portrait = session.prepare(write_portrait(tmp_path / "a.png"), BOX)
    sound = session.encode((voice(1.0), SAMPLE_RATE))
    for seed in (-1, 2**64):
        with pytest.raises(UserError, match=f"seed {seed} .*a whole number, 0 or above"):
            session.speak(portrait, sound, seed=seed)
        with pytest.raises(UserError, match=f"seed {seed} "):
            next(iter(session.generate(portrait, sound, seed=seed)))


def test_objects_of_other_types_get_a_sentence_where_types_are_not_checked():
    """Annotations are checked in tests alone, so this runs as users do."""
    code = """
from mien.errors import UserError
from mien.session import Session
from tests.tiny_nets import tiny_pair

session = Session(*tiny_pair())
for call in (
    lambda: session.prepare(3),
    lambda: session.speak("portrait.png", "audio.wav"),
    lambda: session.drive("portrait.png", "driver.mp4"),
    lambda: session.speak(None, "audio.wav", seed=2.5),
):
    try:
        call()
    except UserError as error:
        print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    first, *others = done.stdout.splitlines()
    assert "the picture is of type int: give a file" in first
    assert len(others) == 3 and all("give what the session's prepare" in line for line in others)
    assert "'portrait.png'" in others[0] and "NoneType" in others[2]


def test_a_session_without_stage_2_only_drives():
    with pytest.raises(UserError, match="no speech-to-motion net"):
        Session(tiny_animator()).encode((voice(1.0), SAMPLE_RATE))


def test_motion_is_sampled_as_the_net_was_trained(session: Session, monkeypatch):
    portrait, sound = session.prepare(ASTRONAUT, BOX), session.encode((voice(1.0), SAMPLE_RATE))

    def motion(sampling: SamplingConfig | None = None) -> torch.Tensor:
        return torch.cat(list(session.generate(portrait, sound, sampling=sampling)), dim=1)

    few = SamplingConfig(steps=2, sampler="ddim")
    expected, usual = motion(few), motion()
    monkeypatch.setattr(session.speech, "sampling", few)
    assert torch.equal(motion(), expected) and not torch.equal(expected, usual)


@pytest.mark.real_world("threads")
def test_threads_that_share_a_session_draw_what_each_draws_alone(guided: Session):
    pictures = [ASTRONAUT, np.ascontiguousarray(ASTRONAUT[:, ::-1])]
    sounds = [(voice(0.6), SAMPLE_RATE), (voice(1.2)[9_600:], SAMPLE_RATE)]

    def work(number: int) -> np.ndarray:
        portrait = guided.prepare(pictures[number])
        return drawn(guided.speak(portrait, sounds[number], sampling=FAST, seed=number))

    alone = [work(0), work(1)]
    assert (alone[0] != alone[1]).any()
    for _ in range(2):
        with ThreadPoolExecutor(2) as pool:
            together = list(pool.map(work, (0, 1)))
        assert all((one == other).all() for one, other in zip(together, alone, strict=True))


def test_half_precision_draws_nearly_the_same(tmp_path: Path):
    animator, speech = tiny_pair()
    path = write_portrait(tmp_path / "a.png")
    films = []
    for precision in ("32-true", "bf16-mixed"):
        session = Session(animator, speech, precision)
        stream = session.speak(session.prepare(path, BOX), (voice(1.0), SAMPLE_RATE), sampling=FAST)
        next(iter(stream))
        assert not torch.is_autocast_enabled("cpu"), "the caller's code is left alone"
        films.append(drawn(stream).astype(int))
    difference = abs(films[0] - films[1])
    # Two to three digits of bfloat16, through random nets.
    assert 0 < difference.mean() < 6


class TestStillHead:
    def test_without_a_mesh_it_is_refused(self, session: Session, tmp_path: Path):
        portrait = session.prepare(write_portrait(tmp_path / "a.png"), BOX)
        with pytest.raises(UserError, match="--still-head"):
            session.speak(portrait, (voice(1.0), SAMPLE_RATE), still_head=True)


class TestDriving:
    @torch.inference_mode()
    def test_a_still_driver_leaves_the_portrait_as_it_is(self, guided: Session):
        portrait = guided.prepare(ASTRONAUT)
        frames = drawn(guided.drive(portrait, np.stack([ASTRONAUT] * 3))).astype(int)
        undriven = guided.animator.render(
            portrait.appearance, portrait.motion, portrait.motion[:, None]
        )
        picture = ((undriven[0, 0].permute(1, 2, 0) + 1) * 127.5).round().numpy()
        # The face is looked for around its last place, which may be a fraction of a pixel off.
        assert abs(frames[1:] - frames[:1]).mean() < 0.1
        points = load_driver(np.stack([ASTRONAUT] * 3), SIDE).meshes.points * SIDE
        assert (points[1:] - points[:1]).abs().max() < 0.3
        # Her own lips through the mesh and back: a few pixels around the mouth differ.
        assert abs(frames[0] - picture).mean() < 3

    def test_lips_and_head_move_as_the_driver_s(self, guided: Session, clip: Path):
        portrait = guided.prepare(ASTRONAUT)
        stream = guided.drive(portrait, clip)
        frames = drawn(stream).astype(int)
        assert len(frames) == stream.count == 26
        assert abs(frames[-1] - frames[0]).max() > 20
        assert stream.sound is not None and stream.sound.rate == SAMPLE_RATE
        scaled = guided.drive(portrait, clip, controls=Controls(0.0, 0.0))
        still = drawn(scaled).astype(int)
        assert abs(still - still[:1]).max() <= 1

    def test_one_person_takes_the_frames_own_points(self, guided: Session, clip: Path):
        portrait = guided.prepare(read_video(clip)[0])
        own = drawn(guided.drive(portrait, clip, transfer="same_person")).astype(int)
        assert abs(own[-1] - own[0]).max() > 20
        with pytest.raises(UserError, match="same_person"):
            guided.drive(portrait, clip, transfer="same_person", controls=Controls(0.5))

    def test_an_absolute_head_is_where_the_driver_s_is(self):
        taker = PortraitMesh.of(in_picture(person(1), turn=(0.1, 0.0, 0.0), scale=70.0))
        turns = ((0.0, 0.2, 0.0), (0.1, -0.1, 0.05))
        track = np.stack([in_picture(open_mouth(person(0), 0.1), turn) for turn in turns])
        taken = retarget(taker, read_motion(track, taker.pose))
        for own, given in zip(track, taken, strict=True):
            wanted, found = head_pose(own), head_pose(given)
            np.testing.assert_allclose(found.rotation, wanted.rotation, atol=0.03)
            assert found.scale == pytest.approx(wanted.scale, rel=0.03)

    @pytest.mark.parametrize("rate", [Fraction(24_000, 1001), Fraction(50)])
    @pytest.mark.real_world("drivers")
    def test_a_video_of_any_rate_takes_as_long_as_it_took(
        self, session: Session, tmp_path: Path, rate: Fraction
    ):
        path, count = tmp_path / "a.mp4", round(1.2 * rate)
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=rate)
            stream.width = stream.height = ASTRONAUT.shape[0]
            stream.pix_fmt = "yuv420p"
            for _ in range(count):
                frame = av.VideoFrame.from_ndarray(ASTRONAUT, format="rgb24")
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        driven = session.drive(session.prepare(ASTRONAUT), path)
        assert driven.count == pytest.approx(1.2 * FPS, abs=1)
        assert driven.sound is None

    @pytest.mark.real_world("drivers")
    def test_a_video_without_a_face_is_refused(self, session: Session):
        with pytest.raises(UserError, match="no face found in the driving video"):
            session.drive(session.prepare(ASTRONAUT), np.zeros((2, 64, 64, 3), np.uint8))

    def test_a_person_who_is_lost_for_a_frame_is_not_exchanged(self):
        """Two faces; the first is hidden for a frame and comes back."""
        small = ASTRONAUT[::2, ::2]
        both = np.zeros((256, 800, 3), np.uint8)
        both[:, :256], both[:, 544:] = small, small[:, ::-1]
        hidden = both.copy()
        hidden[:, :256] = 0
        one = both.copy()
        one[:, 544:] = 0
        driver = load_driver(np.stack([one, both, hidden, both]), 64)
        assert driver.meshes.found.tolist() == [True, True, False, True]
        moved = driver.meshes.points[[1, 3]] - driver.meshes.points[0]
        assert moved.abs().max() < 0.02

    def test_only_the_face_that_was_seen_first_is_followed(self, session: Session):
        small = ASTRONAUT[::2, ::2]
        two = np.zeros((256, 512, 3), np.uint8)
        two[:, :256], two[:, 256:] = small, small[:, ::-1]
        one = two.copy()
        one[:, 256:] = 0
        driven = session.drive(session.prepare(ASTRONAUT), np.stack([one, two, two]))
        still = drawn(driven).astype(int)
        assert abs(still - still[:1]).max() <= 2


def test_the_command_writes_a_video_with_the_driver_s_sound(tmp_path: Path, capsys):
    animator = awake(tiny_animator(guide=True, image_size=SIDE, field_size=16))
    weights = tmp_path / "animator.safetensors"
    save_net(weights, ANIMATOR, animator)
    driver, picture = tmp_path / "drïver 1.mp4", tmp_path / "portrait.png"
    stereo = np.stack((voice(0.4, 48_000), voice(0.4, 48_000)))
    with VideoWriter(driver, Sound(stereo.astype(np.float32), 48_000)) as writer:
        writer.write(np.stack([ASTRONAUT] * 10))
    Image.fromarray(ASTRONAUT).save(picture)
    output = tmp_path / "out.mp4"
    given = [str(driver), str(picture), "-o", str(output), "--animator", str(weights)]
    assert reenact(given) == 0
    assert "10 frames" in capsys.readouterr().out
    assert probe_video(output).frames == 10
    sound = read_sound(output)
    assert sound.rate == 48_000 and len(sound.samples) == 2
    assert reenact(given) == 1
    assert "exists" in capsys.readouterr().err

    with VideoWriter(driver, None) as writer:
        writer.write(np.stack([ASTRONAUT] * 2))
    assert reenact([*given, "--overwrite", "--transfer", "absolute"]) == 0
    with pytest.raises(UserError, match="has no audio track"):
        read_sound(output)


def test_a_box_is_of_the_upright_picture_also_where_pillow_holds_it(session: Session, tmp_path):
    lying = Image.fromarray(np.rot90(ASTRONAUT[:, :400], 1))
    exif = lying.getexif()
    exif[0x0112] = 6  # turned by the viewer
    path = tmp_path / "lying.jpg"
    lying.save(path, exif=exif, quality=95)
    box = (150.0, 50.0, 300.0, 400.0)
    with Image.open(path) as image:
        held = session.prepare(image, box).source
    assert (held == session.prepare(path, box).source).all()


class MallocInfo(ctypes.Structure):
    """What glibc's mallinfo2 returns."""

    names = ("arena", "ordblks", "smblks", "hblks", "mapped", "usmblks", "fsmblks", "used")
    _fields_ = [(name, ctypes.c_size_t) for name in (*names, "fordblks", "keepcost")]


def allocated() -> int:
    """Bytes that this process has allocated, of torch and numpy as well."""
    mallinfo = ctypes.CDLL(None).mallinfo2
    mallinfo.restype = MallocInfo
    found = mallinfo()
    return found.used + found.mapped


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="needs glibc 2.33")
def test_memory_does_not_grow_with_the_length_of_the_sound(session: Session, tmp_path: Path):
    portrait = session.prepare(write_portrait(tmp_path / "a.png"), BOX)

    def most(seconds: float) -> int:
        sound = write_wav(tmp_path / "a.wav", voice(seconds))
        before, stream = allocated(), session.speak(portrait, sound, sampling=FAST)
        return max(allocated() for _ in stream) - before

    for seconds in (1.0, 21.0):
        most(seconds)  # warms up: torch keeps a convolution for each number of frames
    growth = most(21.0) - most(1.0)
    # The frames alone would be 6 MB as bytes and 25 MB as floats.
    assert growth < 2e6
