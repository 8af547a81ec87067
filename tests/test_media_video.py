"""An mp4 comes out as it went in, appears whole or not at all, and says that it is synthetic."""

from pathlib import Path

import av
import numpy as np
import pytest
import torch

from mien.errors import UserError
from mien.media import (
    VideoWriter,
    load_audio,
    probe_video,
    read_frames,
    read_frames_at,
    read_video,
    scaled,
)


def moving_bar(count: int, size: int = 64) -> np.ndarray:
    frames = np.full((count, size, size, 3), (40, 90, 160), np.uint8)
    for number, frame in enumerate(frames):
        frame[:, number % size : number % size + 8] = (220, 60, 30)
    return frames


def tone(samples: int) -> torch.Tensor:
    return 0.4 * torch.sin(2 * torch.pi * 300 * torch.arange(samples) / 16_000)


def write(path: Path, frames: np.ndarray, sound: torch.Tensor, at_once: int = 8) -> Path:
    with VideoWriter(path, sound) as writer:
        for start in range(0, len(frames), at_once):
            writer.write(frames[start : start + at_once])
    return path


def test_frames_and_sound_come_back(tmp_path):
    frames, sound = moving_bar(30), tone(30 * 640 - 100)
    path = write(tmp_path / "a.mp4", frames, sound)
    again, loaded = read_video(path), load_audio(path)
    assert again.shape == frames.shape
    error = np.abs(again.astype(int) - frames)
    assert error.mean() < 4  # the bar's edges: colour has half the resolution
    assert np.median(error) <= 1  # flat places: the same colours, so one matrix both ways
    assert abs(len(loaded) - len(sound)) < 16  # an mp4 counts its length in milliseconds
    assert torch.nn.functional.cosine_similarity(loaded[:18_000], sound[:18_000], dim=0) > 0.999


def test_pictures_are_scaled_as_frames_are(tmp_path):
    """Grey, since colour is scaled from half the resolution when a clip is read."""
    noise = np.random.default_rng(0).integers(60, 200, (3, 16, 16), np.uint8)
    blocks = noise.repeat(4, axis=1).repeat(4, axis=2)
    path = write(tmp_path / "a.mp4", np.stack([blocks] * 3, axis=-1), tone(1920))
    for size in (24, 32, 96):
        wanted = read_video(path, size).astype(int)
        assert np.abs(scaled(read_video(path), size) - wanted).max() <= 3


def test_the_file_is_what_players_expect(tmp_path):
    path = write(tmp_path / "a.mp4", moving_bar(30), tone(30 * 640))
    with av.open(str(path)) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert (video.codec_context.name, audio.codec_context.name) == ("h264", "aac")
        assert video.pix_fmt == "yuv420p" and video.average_rate == 25 and audio.rate == 16_000
        assert (video.codec_context.colorspace, video.codec_context.color_range) == (1, 1)
        assert "synthetic" in container.metadata["comment"]
        assert "creation_time" not in container.metadata
        assert float(video.duration * video.time_base) == pytest.approx(30 / 25)
        assert float(audio.duration * audio.time_base) == pytest.approx(30 / 25)
        times = [(p.stream.type, float(p.dts * p.time_base)) for p in container.demux() if p.size]
    sounds = [place for place, (kind, _) in enumerate(times) if kind == "audio"]
    seen = [place for place, (kind, _) in enumerate(times) if kind == "video"]
    assert sounds[0] < seen[5] and seen[-1] > sounds[len(sounds) // 2], (
        "sound and picture interleave"
    )
    assert path.read_bytes().find(b"moov") < path.read_bytes().find(b"mdat"), "starts while loading"


def test_same_frames_same_bytes_however_they_come(tmp_path):
    frames, sound = moving_bar(20), tone(20 * 640)
    one = write(tmp_path / "one.mp4", frames, sound, at_once=20)
    other = write(tmp_path / "other.mp4", frames, sound, at_once=3)
    assert one.read_bytes() == other.read_bytes()


def test_a_single_frame_with_hardly_any_sound_is_a_video(tmp_path):
    path = write(tmp_path / "a.mp4", moving_bar(1), tone(300))
    assert len(read_video(path)) == 1 and abs(len(load_audio(path)) - 300) < 16


@pytest.mark.parametrize("key_every", [None, 10, 1])
def test_single_frames_are_those_of_the_whole(tmp_path, key_every: int | None):
    path = tmp_path / "a.mp4"
    with VideoWriter(path, tone(48_000), key_every=key_every) as writer:
        writer.write(moving_bar(75))
    whole = read_video(path, 32)
    numbers = [74, 0, 40, 41, 9, 10]
    np.testing.assert_array_equal(read_frames_at(path, numbers, 32), whole[numbers])
    with pytest.raises(UserError, match="no frame 75"):
        read_frames_at(path, [75])


def test_probing_and_scaling(tmp_path):
    path = write(tmp_path / "a.mp4", moving_bar(12), tone(12 * 640))
    info = probe_video(path)
    assert (info.fps, info.width, info.height, info.frames) == (25.0, 64, 64, 12)
    assert read_video(path, size=32).shape == (12, 32, 32, 3)
    assert next(read_frames(path)).shape == (64, 64, 3)


def test_an_older_file_is_replaced_and_keeps_its_permissions_from_the_umask(tmp_path):
    (tmp_path / "a.mp4").write_text("old")
    path = write(tmp_path / "a.mp4", moving_bar(3), tone(1920))
    (tmp_path / "plain").touch()
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode
    assert len(read_video(path)) == 3


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, RuntimeError])
@pytest.mark.parametrize("written", [0, 5])
def test_what_ends_early_leaves_nothing(tmp_path, error: type[BaseException], written: int):
    (tmp_path / "a.mp4").write_text("old")
    with pytest.raises(error), VideoWriter(tmp_path / "a.mp4", tone(9999)) as writer:
        if written:
            writer.write(moving_bar(written))
        assert len(list(tmp_path.iterdir())) == 2
        raise error
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]
    assert (tmp_path / "a.mp4").read_text() == "old"


def test_a_video_of_no_frame_is_a_mistake_of_the_program(tmp_path):
    with pytest.raises(ValueError, match="no frame"), VideoWriter(tmp_path / "a.mp4", tone(640)):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("folder", ["/proc", "/no such folder"])
def test_a_folder_that_takes_no_file_is_said_before_any_frame(folder: str):
    with (
        pytest.raises(UserError, match=r"a\.mp4 cannot be written"),
        VideoWriter(Path(folder) / "a.mp4", tone(640)),
    ):
        raise AssertionError("must not be reached")


@pytest.mark.parametrize("name", ["it's two words.mp4", '"quoted".mp4', "zoë 影.mp4", "%d.mp4"])
@pytest.mark.real_world("outputs")
def test_any_name_is_a_name(tmp_path, name: str):
    assert len(read_video(write(tmp_path / name, moving_bar(3), tone(1920)))) == 3
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_what_is_no_video_is_said(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"")
    with pytest.raises(UserError, match="is empty"):
        read_video(tmp_path / "a.mp4")
    (tmp_path / "b.mp4").write_bytes(b"not a video " * 50)
    with pytest.raises(UserError, match="cannot be read as a video"):
        read_video(tmp_path / "b.mp4")
    with pytest.raises(UserError, match="no file"):
        probe_video(tmp_path / "c.mp4")
    whole = write(tmp_path / "d.mp4", moving_bar(20), tone(12_800)).read_bytes()
    (tmp_path / "e.mp4").write_bytes(whole[:300])
    with pytest.raises(UserError, match=r"e\.mp4 (cannot be read|has no video stream)"):
        read_video(tmp_path / "e.mp4")


@pytest.mark.real_world("outputs")
@pytest.mark.parametrize("size", [(63, 64), (64, 65)])
def test_an_odd_size_is_named_not_the_disk(tmp_path, size: tuple[int, int]):
    width, height = size
    with (
        pytest.raises(UserError, match=f"{width} x {height} pixels.*even"),
        VideoWriter(tmp_path / "a.mp4", None) as writer,
    ):
        writer.write(np.zeros((1, height, width, 3), np.uint8))
    assert not list(tmp_path.iterdir())
