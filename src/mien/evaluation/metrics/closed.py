"""Do the lips close on p, b and m? The sounds are found by `mien.evaluation.phonemes`.

Axes: t video frames, n sounds.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from mien.evaluation.comparison import Comparison, Task
from mien.evaluation.metric import ClipMetric, Features, SetMetric
from mien.evaluation.series import UNKNOWN, Series, ratio

NEAR_FRAMES = 1  # how far from its time a closure counts
OFF_FRAMES = 7  # 0.28 s: far enough from a p, b or m to be chance
SHUT = 0.25  # of the mouth's own range
RANGE = 5, 95  # percentiles: the mouth's own range

Sounds = Int[np.ndarray, " n"]


class Closed(ClipMetric):
    """Share of p, b and m at which the lips close."""

    name = "closed"
    tasks = frozenset({Task.SPEECH})

    def of_clip(self, pair: Comparison) -> float:
        """Over the sounds during the clip."""
        return _share(pair, 0)


class ClosedOff(ClipMetric):
    """The same share 0.28 s earlier and later: chance."""

    name = "closed_off"
    tasks = frozenset({Task.SPEECH})

    def of_clip(self, pair: Comparison) -> float:
        """Over the moments that lie in the clip."""
        return _share(pair, OFF_FRAMES)


class SoundCount(ClipMetric):
    """Number of p, b and m."""

    name = "sounds"
    tasks = frozenset({Task.SPEECH})

    def of_clip(self, pair: Comparison) -> float:
        """During the clip."""
        if pair.closures is None:
            return UNKNOWN
        return float(len(within(pair.closures, len(pair.clip))))


class ClosedOfAll(SetMetric):
    """Share of p, b and m of all clips at which the lips close: each counts alike, clips hold few.

    A row of features is a clip's share and the sounds in it.
    """

    name = "closed"
    tasks = frozenset({Task.SPEECH})
    off = 0

    def features(self, pair: Comparison) -> Features:
        """Share and count, where they are known."""
        share, count = _share(pair, self.off), SoundCount().of_clip(pair)
        return np.array([(share, count)])[: int(share == share)]

    def of_set(self, clips: Sequence[Features], references: Sequence[Features]) -> float:
        """The mean of the shares by their sounds."""
        rows = np.concatenate(clips)
        return ratio(float(rows.prod(axis=1).sum()), float(rows[:, 1].sum()))


class ClosedOffOfAll(ClosedOfAll):
    """The same share of all clips 0.28 s earlier and later: chance."""

    name = "closed_off"
    off = OFF_FRAMES


def _share(pair: Comparison, off: int) -> float:
    if pair.closures is None:
        return UNKNOWN
    moments = np.concatenate((pair.closures - off, pair.closures + off)) if off else pair.closures
    return closed_share(pair.clip.mouth.gap, moments)


def closed_share(gap: Series, sounds: Sounds) -> float:
    """Share of the frames `sounds` near which the gap gets under a quarter of its own range.

    Frames beyond the ends do not count; NaN if none is left.
    """
    inside = within(sounds, len(gap))
    if not len(inside) or not np.isfinite(gap).all():
        return UNKNOWN
    low, high = np.percentile(gap, RANGE)
    shut = gap < low + SHUT * (high - low)
    return float(
        np.mean([shut[max(0, s - NEAR_FRAMES) : s + NEAR_FRAMES + 1].any() for s in inside])
    )


def within(sounds: Sounds, frames: int) -> Int[np.ndarray, " _"]:
    """The moments that lie in a clip of so many frames."""
    return sounds[(sounds >= 0) & (sounds < frames)]
