"""How a drawn mouth moves beside a real one: does it open when that one does, as far, and close.

All lengths are over the distance of the eyes. The definitions are those of the study that chose the
audio front end: r over the frames of a clip, without any search for an offset, which would flatter.
Axes: t video frames, n sounds. A measure that cannot be taken is NaN.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int

from mien.evaluation.points import Points
from mien.face import lip_gap, mouth_width
from mien.metrics import correlation, without_slow

Series = Float[np.ndarray, " t"]

NEAR_FRAMES = 1  # how far from its time a closure counts
OFF_FRAMES = 7  # 0.28 s: far enough from a p, b or m to be chance
SHUT = 0.25  # of the mouth's own range
RANGE = 5, 95  # percentiles: the mouth's own range
NOWHERE = float("nan")


@dataclass(frozen=True)
class Mouth:
    """Gap between the inner lips and distance of the corners, each over that of the eyes."""

    gap: Series
    width: Series

    def __len__(self) -> int:
        return len(self.gap)

    def part(self, start: int, end: int) -> "Mouth":
        """Some of its frames."""
        return Mouth(self.gap[start:end], self.width[start:end])

    def held(self, number: int, count: int) -> "Mouth":
        """One of its frames, standing still for so many."""
        return Mouth(np.full(count, self.gap[number]), np.full(count, self.width[number]))


@dataclass(frozen=True)
class LipScore:
    """A drawn mouth against the real one.

    `gap` and `width` are Pearson's r, `fast` that of the gap without what is slower than 0.6 s,
    `spread` the drawn gap's standard deviation over the real one's. `closed` is the share of p, b
    and m at which the drawn lips close, `closed_off` the same 0.28 s earlier and later: chance.
    `sounds` is how many p, b and m were heard.
    """

    gap: float = NOWHERE
    fast: float = NOWHERE
    width: float = NOWHERE
    spread: float = NOWHERE
    closed: float = NOWHERE
    closed_off: float = NOWHERE
    sounds: float = NOWHERE


def mouth_of(points: Points) -> Mouth:
    """The mouth in every frame; NaN where the points are."""
    gap = np.array([lip_gap(frame) for frame in points], dtype=np.float64)
    return Mouth(gap, np.array([mouth_width(frame) for frame in points], dtype=np.float64))


def lip_score(drawn: Mouth, real: Mouth, sounds: Int[np.ndarray, " n"] | None) -> LipScore:
    """Score frames that belong together; `sounds` are the frames of p, b and m, where known."""
    return LipScore(
        gap=r_of(drawn.gap, real.gap),
        fast=r_of(without_slow(drawn.gap), without_slow(real.gap)),
        width=r_of(drawn.width, real.width),
        spread=ratio(float(drawn.gap.std()), float(real.gap.std())),
        closed=NOWHERE if sounds is None else closed_share(drawn.gap, sounds),
        closed_off=NOWHERE if sounds is None else closed_share(drawn.gap, beside(sounds)),
        sounds=NOWHERE if sounds is None else float(len(within(sounds, len(drawn)))),
    )


def r_of(x: Series, y: Series) -> float:
    """Pearson's r; 0 where either does not change, NaN where either is not known."""
    if len(x) < 2 or not (np.isfinite(x).all() and np.isfinite(y).all()):
        return NOWHERE
    return correlation(torch.from_numpy(x), torch.from_numpy(y))


def slope_of(x: Series, y: Series) -> float:
    """By how much x changes where y changes by 1 (least squares)."""
    away = y - y.mean()
    return ratio(float((x - x.mean()) @ away), float(away @ away))


def closed_share(gap: Series, sounds: Int[np.ndarray, " n"]) -> float:
    """Share of the frames `sounds` near which the gap gets under a quarter of its own range.

    Frames beyond the ends do not count; NaN if none is left.
    """
    inside = within(sounds, len(gap))
    if not len(inside) or not np.isfinite(gap).all():
        return NOWHERE
    low, high = np.percentile(gap, RANGE)
    shut = gap < low + SHUT * (high - low)
    return float(
        np.mean([shut[max(0, s - NEAR_FRAMES) : s + NEAR_FRAMES + 1].any() for s in inside])
    )


def within(sounds: Int[np.ndarray, " n"], frames: int) -> Int[np.ndarray, " _"]:
    """The moments that lie in a clip of so many frames."""
    return sounds[(sounds >= 0) & (sounds < frames)]


def beside(sounds: Int[np.ndarray, " n"]) -> Int[np.ndarray, " _"]:
    """The same moments 0.28 s earlier and later."""
    return np.concatenate((sounds - OFF_FRAMES, sounds + OFF_FRAMES))


def ratio(part: float, whole: float) -> float:
    """A quotient; NaN where the whole is nothing."""
    return part / whole if whole > 1e-12 else NOWHERE
