"""Scores that need no trained net: nearness of frames, smoothness of motion, lips with a voice.

Every score stands beside its trivial rival: a drawn frame beside the source copied, lips beside the
same sound reversed. Axes: b batch, t video frames, h w space. Pictures are RGB in [-1, 1].
Definitions are those of the sources that each function names.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def psnr(drawn: Float[Tensor, "b 3 h w"], wanted: Float[Tensor, "b 3 h w"]) -> Float[Tensor, " b"]:
    """Peak signal-to-noise ratio of each picture in dB; equal pictures score 100.

    Per picture and in float: pooling errors first, or subtracting bytes, gives other numbers.
    """
    error = (drawn.clamp(-1, 1) - wanted).square().mean(dim=(1, 2, 3)) / 4  # peak to peak is 2
    return -10 * torch.log10(error.clamp_min(1e-10))


def ssim(drawn: Float[Tensor, "b 3 h w"], wanted: Float[Tensor, "b 3 h w"]) -> Float[Tensor, " b"]:
    """Structural similarity of each picture (Wang 2004: Gaussian of 11, sigma 1.5, .01, .03)."""
    from torchmetrics.functional.image import structural_similarity_index_measure

    similarity = structural_similarity_index_measure(
        drawn.clamp(-1, 1), wanted, sigma=1.5, reduction="none", data_range=2.0
    )
    assert isinstance(similarity, Tensor)
    return similarity


def l1(drawn: Float[Tensor, "b 3 h w"], wanted: Float[Tensor, "b 3 h w"]) -> Float[Tensor, " b"]:
    """Mean absolute difference of each picture, on a scale where black to white is 1 (FOMM)."""
    return (drawn.clamp(-1, 1) - wanted).abs().mean(dim=(1, 2, 3)) / 2


def weighted_l1(
    drawn: Float[Tensor, "b 3 h w"],
    wanted: Float[Tensor, "b 3 h w"],
    weight: Float[Tensor, "b 1 h w"],
) -> Float[Tensor, " b"]:
    """Mean absolute error of each picture where `weight` says; 0 where it says nothing."""
    error = ((drawn - wanted).abs() * weight).mean(dim=(1, 2, 3))
    return error / weight.mean(dim=(1, 2, 3)).clamp_min(1e-8)


def jerk(motion: Float[Tensor, "b t m"]) -> Float[Tensor, " b"]:
    """Root mean square of the third difference over frames: how rough a motion is."""
    return motion.diff(n=3, dim=1).square().mean(dim=(1, 2)).sqrt()


def seam_ratio(motion: Float[Tensor, "1 t m"], seams: list[int]) -> float:
    """Mean speed where windows join, over the mean speed elsewhere; 1 is invisible.

    `seams` are the first frames of all windows but the first.
    """
    speed = motion[0].diff(dim=0).norm(dim=-1)
    at = torch.zeros_like(speed, dtype=torch.bool)
    at[[seam - 1 for seam in seams]] = True
    return float(speed[at].mean() / speed[~at].mean().clamp_min(1e-12))


SLOW_FRAMES = 15  # 0.6 s: what is slower is the melody of the sentence, not its sounds


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
    """Correlate mouth opening with loudness, both a number a video frame.

    Loudness is the root mean square under each frame, and both are smoothed over five frames (a
    syllable). The reversed sound keeps every property of the sound but its timing: it is the
    control that a real score must beat. Real speakers score 0.6 on read commands filmed from the
    front and 0.15 on speeches, against 0 with the sound reversed.
    """
    at_lags = lip_sync_at_lags(opening, loudness, min(12, len(loudness) - 2))
    best = max(at_lags, key=lambda lag: at_lags[lag])
    backwards = correlation(_smooth(opening), _smooth(loudness).flip(0))
    return SyncScore(at_lags[0], backwards, best, at_lags[best])


def lip_sync_at_lags(
    opening: Float[Tensor, " t"], loudness: Float[Tensor, " t"], reach: int
) -> dict[int, float]:
    """The correlation of `lip_sync` with the mouth taken so many frames later (negative: earlier),
    for every lag up to `reach`.
    """
    return correlation_at_lags(_smooth(opening), _smooth(loudness), reach)


def correlation_at_lags(
    x: Float[Tensor, " t"], y: Float[Tensor, " t"], reach: int
) -> dict[int, float]:
    """Pearson's correlation with x taken so many frames later, for every lag up to `reach`."""
    return {lag: _correlation_at(x, y, lag) for lag in range(-reach, reach + 1)}


def without_slow(values: Float[np.ndarray, " t"]) -> Float[np.ndarray, " t"]:
    """The values without their running mean of 0.6 s, which near the ends is shorter on both sides
    alike: a straight line leaves nothing.
    """
    count = len(values)
    sums = np.concatenate(([0.0], np.cumsum(values)))
    at = np.arange(count)
    reach = np.minimum(SLOW_FRAMES // 2, np.minimum(at, count - 1 - at))
    return values - (sums[at + reach + 1] - sums[at - reach]) / (2 * reach + 1)


def correlation(x: Float[Tensor, " t"], y: Float[Tensor, " t"]) -> float:
    """Pearson's correlation; 0 where either does not change."""
    x, y = x.double() - x.double().mean(), y.double() - y.double().mean()
    size = float(x.norm() * y.norm())
    return float(x @ y) / size if size > 1e-9 else 0.0


def _correlation_at(opening: Tensor, level: Tensor, lag: int) -> float:
    if lag >= 0:
        return correlation(opening[lag:], level[: len(level) - lag])
    return correlation(opening[:lag], level[-lag:])


def _smooth(values: Float[Tensor, " t"]) -> Float[Tensor, " t"]:
    padded = F.pad(values[None, None], (2, 2), mode="replicate")
    return F.avg_pool1d(padded, 5, stride=1)[0, 0]
