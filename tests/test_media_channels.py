"""Channels, lengths and rates of sound as people bring it."""

from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
import torch

from mien.errors import UserError
from mien.media import (
    Sound,
    VideoWriter,
    load_audio,
    probe_video,
    read_sound,
    speaking_channel,
)
from tests.tiny_nets import voice

RATE = 16_000


def rms(x) -> float:
    return float(np.sqrt(np.mean(np.square(np.asarray(x)))))


def encode(path: Path, sound: np.ndarray, codec: str, form: str, rate: int = 44_100) -> Path:
    """A sound file by FFmpeg, in a container of our choice."""
    with av.open(str(path), "w", format=form) as container:
        stream = container.add_stream(codec, rate=rate, layout="mono")
        frame = av.AudioFrame.from_ndarray(sound[None].astype(np.float32), "fltp", "mono")
        frame.sample_rate = rate
        resampler = av.AudioResampler(stream.format, "mono", rate)
        fifo = av.AudioFifo()
        for part in resampler.resample(frame):
            fifo.write(part)
        size = stream.codec_context.frame_size or 1024
        while part := fifo.read(size, partial=True):
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("seconds", [5.0, 20.0])
@pytest.mark.parametrize(
    ("codec", "form"), [("aac", "adts"), ("aac", "mp4"), ("libmp3lame", "mp3")]
)
@pytest.mark.real_world("wrong length in the file")
def test_nothing_of_the_end_is_lost(codec: str, form: str, seconds: float, tmp_path: Path):
    """Long pauses mislead what estimates a length by the rate of bits."""
    rate = 44_100
    sound = voice(seconds, rate)
    sound[round(0.3 * len(sound)) : round(0.8 * len(sound))] = 0
    path = encode(tmp_path / f"sound.{form}", sound, codec, form)
    loaded = load_audio(path)
    assert abs(len(loaded) / RATE - seconds) < 0.06  # an encoder's delay and its last block
    assert rms(loaded[-RATE:]) > 0.5 * rms(sound[-rate:])


@pytest.mark.parametrize(
    ("right", "noted"),
    [(1.0, False), (0.0, False), (0.01, False), (-1.0, True), (-0.9, True), (0.3, False)],
)
@pytest.mark.real_world("channels")
def test_a_voice_is_as_loud_as_it_came(right: float, noted: bool, tmp_path: Path):
    mono = voice(2.0)
    path = tmp_path / "two.wav"
    soundfile.write(path, np.stack([mono, right * mono], axis=1), RATE)
    loaded, note = speaking_channel(read_sound(path), name=str(path))
    assert rms(loaded) > 0.6 * rms(mono)
    assert (note is not None) == noted
    if abs(right) <= 0.05 or noted:
        assert rms(loaded) == pytest.approx(rms(mono), rel=0.01)
    assert note is None or str(path) in note


@pytest.mark.parametrize(
    ("channel", "index"), [("left", 0), ("right", 1), ("1", 0), ("3", 2), ("mix", None)]
)
@pytest.mark.real_world("channels")
def test_a_channel_can_be_chosen(channel: str, index: int | None):
    samples = np.random.default_rng(0).normal(0, 0.1, (3, 100))
    loaded, note = speaking_channel(Sound(samples, RATE), channel)
    assert note is None
    assert np.array_equal(loaded, samples.mean(axis=0) if index is None else samples[index])


@pytest.mark.parametrize("channel", ["0", "3", "middle", "-1", "1.5"])
@pytest.mark.real_world("channels")
def test_a_channel_that_is_not_there_is_named(channel: str):
    with pytest.raises(UserError, match=f"has 2 channels, and none is {channel}"):
        speaking_channel(Sound(np.zeros((2, 10)), RATE), channel)


@pytest.mark.parametrize(("rate", "channels"), [(44_100, 2), (48_000, 1), (16_000, 1), (22_050, 2)])
@pytest.mark.real_world("outputs")
def test_a_film_sounds_as_the_sound_came(rate: int, channels: int, tmp_path: Path):
    samples = np.stack([voice(2.0, rate), 0.3 * voice(2.0, rate)[::-1]])[:channels]
    path = tmp_path / "film.mp4"
    with VideoWriter(path, Sound(samples, rate)) as writer:
        writer.write(np.zeros((50, 32, 32, 3), np.uint8))
    back = read_sound(path)
    assert back.rate == rate and back.samples.shape == samples.shape
    assert np.corrcoef(back.samples.ravel(), samples.ravel())[0, 1] > 0.98


@pytest.mark.parametrize(("rate", "channels"), [(96_000, 1), (11_000, 1), (48_000, 4)])
def test_what_aac_does_not_know_is_brought_near(rate: int, channels: int, tmp_path: Path):
    samples = np.stack([voice(1.0, rate)] * channels)
    path = tmp_path / "film.mp4"
    with VideoWriter(path, Sound(samples, rate)) as writer:
        writer.write(np.zeros((25, 32, 32, 3), np.uint8))
    back = read_sound(path)
    assert (back.rate, len(back.samples)) == (48_000, 1)
    assert back.samples.shape[1] == pytest.approx(48_000, abs=2)


@pytest.mark.real_world("drivers")
def test_a_song_with_a_cover_is_no_film(tmp_path: Path):
    song = tmp_path / "song.mp3"
    with av.open(str(song), "w") as container:
        sound = container.add_stream("libmp3lame", rate=44_100, layout="mono")
        cover = container.add_stream("mjpeg", rate=1)
        cover.width = cover.height = 64
        cover.pix_fmt = "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        picture = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 200, np.uint8), "rgb24")
        picture.pts = 0
        container.mux(cover.encode(picture.reformat(format="yuvj420p")))
        container.mux(cover.encode(None))
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 44_100), np.float32), "fltp", "mono")
        frame.sample_rate = 44_100
        fifo = av.AudioFifo()
        fifo.write(frame)
        while part := fifo.read(1152, partial=True):
            container.mux(sound.encode(part))
        container.mux(sound.encode(None))
    with pytest.raises(UserError, match="has no video stream: take a video"):
        probe_video(song)
    assert len(load_audio(song)) > 15_000


def test_waveforms_are_numbers_of_the_nets(tmp_path: Path):
    path = tmp_path / "loud.wav"
    soundfile.write(path, 3 * voice(1.0, 44_100), 44_100, subtype="FLOAT")
    loaded = load_audio(path)
    assert loaded.dtype == torch.float32 and loaded.abs().max() <= 1 and len(loaded) == RATE
