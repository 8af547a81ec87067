"""Do the lips follow the loudness of the voice? Axes: t video frames."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from mien.evaluation.comparison import Comparison, Task
from mien.evaluation.metric import ClipMetric
from mien.evaluation.series import UNKNOWN
from mien.metrics import correlation, correlation_at_lags


class Sync(ClipMetric):
    """Pearson's r of the lip gap with the loudness of the sound, both smoothed over five frames."""

    name = "sync"
    tasks = frozenset({Task.SPEECH})

    def of_clip(self, pair: Comparison) -> float:
        """Without any shift."""
        gap = pair.clip.mouth.gap
        if pair.loudness is None or len(gap) < 3 or not np.isfinite(gap).all():
            return UNKNOWN
        return lip_sync(torch.from_numpy(gap).float(), pair.loudness).correlation


@dataclass(frozen=True)
class SyncScore:
    """Does mouth opening follow the sound: correlation, and the same with the sound reversed.

    `lag` is the shift in frames, within half a second, at which it follows best (positive: the
    mouth comes late), and `at_lag` the correlation there.
    """

    correlation: float
    reversed: float
    lag: int
    at_lag: float


def lip_sync(opening: Float[Tensor, " t"], loudness: Float[Tensor, " t"]) -> SyncScore:
    """Correlate mouth opening with loudness, both one value per video frame.

    Loudness is the RMS under each frame, and both are smoothed over five frames (a syllable). The
    reversed audio keeps every property of the audio but its timing: it is the control that a real
    score must beat. Real speakers score 0.6 on read commands filmed from the front and 0.15 on
    speeches, against 0 with the audio reversed.
    """
    mouth, sound = _smooth(opening), _smooth(loudness)
    at_lags = correlation_at_lags(mouth, sound, min(12, len(loudness) - 2))
    best = max(at_lags, key=lambda lag: at_lags[lag])
    return SyncScore(at_lags[0], correlation(mouth, sound.flip(0)), best, at_lags[best])


def _smooth(values: Float[Tensor, " t"]) -> Float[Tensor, " t"]:
    padded = F.pad(values[None, None], (2, 2), mode="replicate")
    return F.avg_pool1d(padded, 5, stride=1)[0, 0]
