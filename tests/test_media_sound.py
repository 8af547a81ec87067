"""Any audio file gives the same sound; what is not audio is refused in one sentence."""

import math
import wave
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
import torch

from mien.errors import UserError
from mien.media import load_audio, to_waveform

SECONDS, PITCH = 0.5, 440.0


def tone(rate: int, seconds: float = SECONDS, loudness: float = 0.5) -> np.ndarray:
    return loudness * np.sin(2 * np.pi * PITCH * np.arange(int(rate * seconds)) / rate)


def encode(path: Path, codec: str, rate: int, sound: np.ndarray, picture: bool = False) -> Path:
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25) if picture else None
        stream = container.add_stream(codec, rate=rate, layout="mono")
        if video is not None:
            video.width = video.height = 32
            for _ in range(math.ceil(len(sound) / rate * 25)):
                container.mux(
                    video.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8)))
                )
            container.mux(video.encode(None))
        block = stream.codec_context.frame_size or 1024
        for start in range(0, len(sound), block):
            part = sound[None, start : start + block].astype(np.float32)
            frame = av.AudioFrame.from_ndarray(part, format="fltp", layout="mono")
            frame.sample_rate, frame.pts = rate, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def likeness(loaded: torch.Tensor, seconds: float = SECONDS) -> float:
    """Correlation with the tone at 16 kHz, in the middle, where no codec fades in or out."""
    wanted = torch.from_numpy(tone(16_000, seconds)).float()
    middle = slice(1600, min(len(wanted), len(loaded)) - 1600)
    return float(torch.nn.functional.cosine_similarity(loaded[middle], wanted[middle], dim=0))


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100, 48_000])
@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
def test_any_wav_is_the_same_sound(tmp_path, rate: int, subtype: str):
    soundfile.write(tmp_path / "a.wav", tone(rate), rate, subtype=subtype)
    loaded = load_audio(tmp_path / "a.wav")
    assert loaded.dtype == torch.float32 and abs(len(loaded) - 8000) <= 1
    assert likeness(loaded) > 0.999 and loaded.abs().max() == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("name", ["a.flac", "a.ogg", "a.mp3", "a.aiff", "a.au"])
def test_any_format_of_libsndfile_is_the_same_sound(tmp_path, name: str):
    soundfile.write(tmp_path / name, tone(44_100), 44_100)
    loaded = load_audio(tmp_path / name)
    assert abs(len(loaded) - 8000) < 20 and likeness(loaded) > 0.995


@pytest.mark.parametrize(
    ("name", "codec", "rate"), [("a.m4a", "aac", 44_100), ("a.mka", "libopus", 48_000)]
)
def test_any_format_of_ffmpeg_is_the_same_sound(tmp_path, name: str, codec: str, rate: int):
    loaded = load_audio(encode(tmp_path / name, codec, rate, tone(rate)))
    assert abs(len(loaded) - 8000) < 400 and likeness(loaded) > 0.99


def test_the_sound_of_a_video_is_heard(tmp_path):
    loaded = load_audio(encode(tmp_path / "a.mp4", "aac", 16_000, tone(16_000), picture=True))
    assert abs(len(loaded) - 8000) <= 1 and likeness(loaded) > 0.99


def test_channels_are_averaged(tmp_path):
    left = tone(48_000)
    soundfile.write(tmp_path / "a.wav", np.stack((left, np.zeros_like(left)), 1), 48_000)
    loaded = load_audio(tmp_path / "a.wav")
    assert loaded.abs().max() == pytest.approx(0.5, abs=0.01) and likeness(loaded) > 0.999


def test_silence_is_silence(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(16_000), 16_000)
    assert load_audio(tmp_path / "a.wav").equal(torch.zeros(16_000))


def test_what_exceeds_full_scale_is_made_quieter_as_a_whole(tmp_path):
    soundfile.write(tmp_path / "a.wav", tone(16_000, loudness=7.0), 16_000, subtype="FLOAT")
    loaded = load_audio(tmp_path / "a.wav")
    assert loaded.abs().max() == pytest.approx(1.0) and likeness(loaded) > 0.999


@pytest.mark.parametrize("name", ["it's two words.wav", '"quoted".wav', "zoë 声音.wav", "%d.wav"])
def test_any_name_is_a_name(tmp_path, name: str):
    soundfile.write(tmp_path / "a.wav", tone(16_000), 16_000)
    (tmp_path / "a.wav").rename(tmp_path / name)
    assert len(load_audio(tmp_path / name)) == 8000
    film = encode(tmp_path / "a.mp4", "aac", 16_000, tone(16_000), picture=True)
    assert len(load_audio(film.rename(tmp_path / f"{name}.mp4"))) > 7000


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_samples_that_are_no_numbers_are_refused(tmp_path, value: float):
    sound = tone(16_000)
    sound[100] = value
    soundfile.write(tmp_path / "a.wav", sound, 16_000, subtype="FLOAT")
    with pytest.raises(UserError, match=r"a\.wav has samples that are NaN"):
        load_audio(tmp_path / "a.wav")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "is empty"),
        (
            b"Dear diary,\ntoday I spoke.\n" * 20,
            "cannot be read as sound|has (no|an empty) audio track",
        ),
        (
            b"RIFF\x24\x00\x00\x00WAVEfmt ",
            "cannot be read as sound|has (no|an empty) audio track",
        ),
        (
            bytes(range(256)) * 8,
            "cannot be read as sound|has (no|an empty) audio track",
        ),
    ],
)
@pytest.mark.parametrize("name", ["a.wav", "a.mp3", "a.txt"])
def test_what_is_no_sound_is_said(tmp_path, name: str, content: bytes, complaint: str):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=complaint):
        load_audio(tmp_path / name)


def test_a_wav_without_samples_is_said(tmp_path):
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
    with pytest.raises(UserError, match="has an empty audio track"):
        load_audio(tmp_path / "a.wav")


def test_a_video_without_sound_is_said(tmp_path):
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width = stream.height = 32
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8))))
        container.mux(stream.encode(None))
    with pytest.raises(UserError, match="has (no|an empty) audio track"):
        load_audio(tmp_path / "a.mp4")


def test_no_file_and_a_folder_are_said(tmp_path):
    with pytest.raises(UserError, match=r"no file .*none\.wav"):
        load_audio(tmp_path / "none.wav")
    with pytest.raises(UserError, match="is a folder"):
        load_audio(tmp_path)


def test_rates_are_those_of_the_features():
    from mien.audio import features
    from mien.media import sound, video

    assert (sound.SAMPLE_RATE, video.FPS) == (features.SAMPLE_RATE, features.FPS)


@pytest.mark.parametrize("rate", [16_000, 48_000])
def test_no_samples_are_an_empty_waveform(rate: int):
    assert to_waveform(np.zeros(0, np.float32), rate).shape == (0,)
