"""Lips and sound stay together from the footage to the clips, and late sound comes back to them.

A lamp stands for the lips: LampFinder opens them as brightly as it shines.
"""

import json
from fractions import Fraction
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from mien.audio.features import SAMPLES_PER_FRAME
from mien.data.lips_from_sound import LipsFromSound
from mien.media import load_audio, read_video
from mien.prepare.command import main
from mien.types import FPS, SAMPLE_RATE
from tests.media_clips import RATE, irregular, regular, starts
from tests.prepare.footage import LAMP, LAMP_FINDER, LIMITS_OFF, film

SENTENCE = Path(str(files("mien") / "assets" / "demo.wav"))
FLASH = 0.1  # seconds
RATES = {"23.976": Fraction(24000, 1001), "29.97": Fraction(30000, 1001), "50": Fraction(50)}


def prepare(folder: Path, *more: str) -> list[dict]:
    """The parts of the one video below `folder`."""
    asked = [str(folder / "f"), "-o", str(folder / "d"), "--set", "valid_share=0"]
    assert main([*asked, LAMP_FINDER, *LIMITS_OFF, *more]) == 0
    return json.loads((folder / "d" / "records.jsonl").read_text())["parts"]


def lit(folder: Path, part: dict) -> np.ndarray:
    """The lamp's brightness in each frame of a clip, from 0 to 1."""
    left, top, right, _ = part["square"]
    scale = 256 / (right - left)
    rows, columns = (
        slice(round((side.start - edge) * scale) + 4, round((side.stop - edge) * scale) - 4)
        for side, edge in zip(LAMP, (top, left), strict=True)
    )
    frames = read_video(folder / "d" / "clips" / f"{part['name']}.mp4")
    return frames[:, rows, columns].mean(axis=(1, 2, 3)) / 255


def audio_of(folder: Path, part: dict, rate: int) -> np.ndarray:
    """The loudest sample of every 1 / rate seconds of a clip."""
    sound = load_audio(folder / "d" / "clips" / f"{part['name']}.mp4").numpy()
    step = SAMPLE_RATE // rate
    return np.abs(sound[: len(sound) // step * step]).reshape(-1, step).max(axis=1)


@pytest.mark.parametrize("rate", [*RATES, "variable"])
def test_flash_and_click_stay_within_half_a_frame(rate: str, tmp_path: Path):
    seconds = 20
    times = irregular(seconds) if rate == "variable" else regular(RATES[rate], seconds)
    now = np.arange(seconds * RATE) / RATE
    click = np.where(now % 1 < FLASH, 0.5 * np.sin(now * 2 * np.pi * 440), 0)
    film(tmp_path / "f" / "ann" / "1.mp4", seconds, (), times=times,
         sounds=[click.astype(np.float32)], lamp=lambda time: float(time % 1 < FLASH))  # fmt: skip
    parts = prepare(
        tmp_path, "cut.max_seconds=7", "shift_sound=false", "limits.max_audio_offset=null"
    )
    assert len(parts) == 3 and not any(part["reasons"] for part in parts)

    flashes, clicks = [], []
    for part in parts:
        begin = part["first"] / FPS
        flashes += [*(starts(lit(tmp_path, part) > 0.5, FPS) + begin)]
        clicks += [*(starts(audio_of(tmp_path, part, 1000) > 0.2, 1000) + begin)]
    half = 0.5 / FPS
    inner = [k for k in range(seconds) if min(abs(k * FPS - part["first"]) for part in parts) > 3]
    for second in inner:
        shown = min(float(time) for time in times if time >= second)  # not before a picture is
        assert np.abs(np.array(flashes) - shown).min() <= half + 1e-6
        assert np.abs(np.array(clicks) - second).min() <= half


def talk(folder: Path, late: int, seconds: int = 14) -> None:
    """Footage whose speech comes so many frames after the lamp, which stands for the lips."""
    sentence = load_audio(SENTENCE)
    speech = sentence.repeat(seconds // 5 + 2)
    gap = LipsFromSound()(speech)
    low, high = np.percentile(gap, (2, 98))
    opening = np.clip((gap - low) / (high - low), 0, 1)

    def lamp(time: float) -> float:
        return float(opening[int(time * FPS) + FPS])

    first = (FPS - late) * SAMPLES_PER_FRAME
    voice = speech[first : first + seconds * SAMPLE_RATE].repeat_interleave(RATE // SAMPLE_RATE)
    film(folder / "f" / "ann" / "1.mp4", seconds, (), sounds=[voice.numpy()], lamp=lamp)


@pytest.mark.parametrize("late", [6, -5])
def test_late_and_early_sound_comes_back_to_the_lips(late: int, tmp_path: Path):
    talk(tmp_path, late)
    parts = prepare(tmp_path)
    assert {part["measures"]["sound_late"] for part in parts} == {late}
    assert {part["sound_moved"] for part in parts} == {late}
    assert not any(part["reasons"] for part in parts)
    # Where the footage has no sound for the lips there is no clip.
    assert sum(part["frames"] for part in parts) == 14 * FPS - abs(late)
    assert parts[0]["first"] == max(0, -late)
    for part in parts:
        sound = load_audio(tmp_path / "d" / "clips" / f"{part['name']}.mp4")
        light, gap = lit(tmp_path, part), LipsFromSound()(sound)
        follow = [np.corrcoef(light[5:-5], np.roll(gap, -k)[5:-5])[0, 1] for k in range(-4, 5)]
        assert np.argmax(follow) == 4 and follow[4] > 0.6


def test_sound_on_time_is_left_alone(tmp_path: Path):
    talk(tmp_path, 2)
    parts = prepare(tmp_path)
    assert {(p["measures"]["sound_late"], p["sound_moved"]) for p in parts} == {(2, 0)}


def test_sound_that_is_too_late_to_be_measured_is_rejected(tmp_path: Path):
    talk(tmp_path, 14)
    for part in prepare(tmp_path):
        assert "audio late: 12 frames or more, at most 3" in part["reasons"]
