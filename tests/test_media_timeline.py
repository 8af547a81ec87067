"""Pictures and sound stay together at every rate, to the end."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from mien.media import timeline
from mien.media.timeline import Damaged, look_inside, pictures_on_grid, sound_on_grid
from mien.types import FPS, SAMPLE_RATE
from tests.media_clips import (
    RATE,
    flash_and_click,
    irregular,
    lay_on_its_side,
    regular,
    starts,
)

HALF_A_PICTURE = 0.5 / FPS
RATES = {
    "23.976": Fraction(24000, 1001),
    "25": Fraction(25),
    "29.97": Fraction(30000, 1001),
    "30": Fraction(30),
    "50": Fraction(50),
}


@pytest.mark.parametrize(
    ("rate", "seconds"),
    [("29.97", 120), ("50", 120), ("variable", 120), ("23.976", 60), ("25", 60), ("30", 60)],
)
def test_flash_and_click_stay_together_to_the_end(rate: str, seconds: int, tmp_path: Path):
    """In a minute NTSC's rates, taken for round ones, drift by three times what is allowed."""
    times = irregular(seconds) if rate == "variable" else regular(RATES[rate], seconds)
    path = flash_and_click(tmp_path / "marks.mp4", times)

    bright = np.array([picture.mean() > 128 for picture in pictures_on_grid(path)])
    assert abs(len(bright) - seconds * FPS) <= 2
    sound = np.concatenate(list(sound_on_grid(path, look_inside(path).origin)))
    window = SAMPLE_RATE // 1000
    loud = np.abs(sound[: len(sound) // window * window]).reshape(-1, window).max(axis=1) > 0.2

    flashes, clicks = starts(bright, FPS), starts(loud, 1000)
    assert len(flashes) == len(clicks) == seconds
    # A camera shows a flash with its next picture, which may come a whole picture later.
    shown = np.array([min(float(t) for t in window if t >= s) for s, window in _windows(times)])
    np.testing.assert_allclose(flashes, shown, atol=HALF_A_PICTURE + 1e-6)
    np.testing.assert_allclose(clicks, np.arange(seconds), atol=0.003)


def _windows(times: list[Fraction]) -> list[tuple[int, list[Fraction]]]:
    """For each second, the pictures of its beginning."""
    pictures: dict[int, list[Fraction]] = {}
    for time in times:
        pictures.setdefault(int(time), []).append(time)
    return sorted(pictures.items())


def test_a_stamp_that_repeats_moves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = flash_and_click(tmp_path / "marks.mp4", regular(Fraction(25), 6))
    whole = [picture.mean() > 128 for picture in pictures_on_grid(path)]
    stamp, seen = timeline._time, []

    def stutters(frame):
        seen.append(stamp(frame))
        return seen[-2] if len(seen) in (10, 60, 61) else seen[-1]

    monkeypatch.setattr(timeline, "_time", stutters)
    again = [picture.mean() > 128 for picture in pictures_on_grid(path)]
    assert len(again) == len(whole)
    assert np.abs(starts(np.array(again), FPS) - starts(np.array(whole), FPS)).max() <= 1 / FPS


def test_a_stamp_from_nowhere_ends_the_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = flash_and_click(tmp_path / "marks.mp4", regular(Fraction(25), 2))
    stamp, seen = timeline._time, []

    def leaps(frame):
        seen.append(stamp(frame))
        return seen[-1] + (100_000 if len(seen) > 30 else 0)

    monkeypatch.setattr(timeline, "_time", leaps)
    pictures = pictures_on_grid(path)
    with pytest.raises(Damaged, match="gap"):
        for _ in range(60):
            next(pictures)


def test_holes_in_the_sound_are_silent_and_what_follows_stays_in_its_place(tmp_path: Path):
    path = tmp_path / "hole.mkv"
    with av.open(str(path), "w") as container:
        sound = container.add_stream("pcm_s16le", rate=RATE, layout="mono")
        for number in range(60):
            if 20 <= number < 40:
                continue
            block = av.AudioFrame.from_ndarray(
                np.full((1, RATE // 10), 8000, np.int16), format="s16", layout="mono"
            )
            block.sample_rate, block.pts = RATE, number * RATE // 10
            container.mux(sound.encode(block))
        container.mux(sound.encode(None))
    loaded = np.concatenate(list(sound_on_grid(path, Fraction(0))))
    assert abs(len(loaded) - 6 * SAMPLE_RATE) < 20
    loud = np.abs(loaded[: 6 * SAMPLE_RATE]).reshape(60, -1).mean(axis=1) > 0.1
    assert loud.tolist() == [True] * 20 + [False] * 20 + [True] * 20
    later = np.concatenate(list(sound_on_grid(path, Fraction(1))))
    assert abs(len(later) - 5 * SAMPLE_RATE) < 20
    assert np.abs(later[: SAMPLE_RATE // 2]).mean() > 0.1


def test_phones_on_their_side_are_turned_upright(tmp_path: Path):
    path = flash_and_click(tmp_path / "marks.mp4", regular(Fraction(25), 1), size=(64, 48))
    lay_on_its_side(path)
    assert next(pictures_on_grid(path)).shape == (64, 48, 3)
