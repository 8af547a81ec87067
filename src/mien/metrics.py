"""Metrics that training, preparation and evaluation share: image similarity, correlation.

Axes: b batch, t video frames, h w space. Pictures are RGB in [-1, 1].
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

SLOW_FRAMES = 15  # 0.6 s: slower changes are prosody, not single speech sounds
MAX_PSNR = 100.0  # dB of equal pictures, the upper limit


def psnr(drawn: Float[Tensor, "b 3 h w"], wanted: Float[Tensor, "b 3 h w"]) -> Float[Tensor, " b"]:
    """Peak signal-to-noise ratio of each picture in dB; equal pictures score 100.

    Per picture and in float: pooling errors first, or subtracting bytes, gives other numbers.
    """
    from torchmetrics.functional.image import peak_signal_noise_ratio  # slow to import

    decibels = peak_signal_noise_ratio(
        drawn.clamp(-1, 1), wanted, data_range=2.0, reduction="none", dim=(1, 2, 3)
    )
    return decibels.clamp_max(MAX_PSNR)


def weighted_l1(
    drawn: Float[Tensor, "b 3 h w"],
    wanted: Float[Tensor, "b 3 h w"],
    weight: Float[Tensor, "b 1 h w"],
) -> Float[Tensor, " b"]:
    """Weighted mean absolute error of each picture; 0 where all weights are 0."""
    error = ((drawn - wanted).abs() * weight).mean(dim=(1, 2, 3))
    return error / weight.mean(dim=(1, 2, 3)).clamp_min(1e-8)


def mouth_l1(
    drawn: Float[Tensor, "b 3 h w"],
    wanted: Float[Tensor, "b 3 h w"],
    mouth: Float[Tensor, "b 1 h w"],
) -> Float[Tensor, " b"]:
    """`weighted_l1` of the mouth on the scale of `l1`; NaN where the mouth is unknown."""
    error = weighted_l1(drawn.clamp(-1, 1), wanted, mouth) / 2
    return torch.where(mouth.flatten(1).any(dim=1), error, torch.nan)


def correlation_at_lags(
    x: Float[Tensor, " t"], y: Float[Tensor, " t"], reach: int
) -> dict[int, float]:
    """Pearson's correlation with x shifted by every lag from -`reach` to `reach` frames."""
    return {lag: _correlation_at(x, y, lag) for lag in range(-reach, reach + 1)}


def without_slow(values: Float[np.ndarray, " t"]) -> Float[np.ndarray, " t"]:
    """High-pass filter: the values minus their centred running mean of 0.6 s, whose window shrinks
    symmetrically near the ends, so that a straight line gives 0.
    """
    count = len(values)
    sums = np.concatenate(([0.0], np.cumsum(values)))
    at = np.arange(count)
    reach = np.minimum(SLOW_FRAMES // 2, np.minimum(at, count - 1 - at))
    return values - (sums[at + reach + 1] - sums[at - reach]) / (2 * reach + 1)


def correlation(x: Float[Tensor, " t"], y: Float[Tensor, " t"]) -> float:
    """Pearson's correlation; 0 where either is constant."""
    x, y = x.double() - x.double().mean(), y.double() - y.double().mean()
    size = float(x.norm() * y.norm())
    return float(x @ y) / size if size > 1e-9 else 0.0


def _correlation_at(x: Tensor, y: Tensor, lag: int) -> float:
    if lag >= 0:
        return correlation(x[lag:], y[: len(y) - lag])
    return correlation(x[:lag], y[-lag:])
