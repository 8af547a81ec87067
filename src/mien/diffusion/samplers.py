"""Samplers: from noise to a clean sample, given only a denoiser, the noise and noise levels.

`denoise(x, level)` predicts the clean sample (x0) from `x`, which may have any axes after the
batch; `level` has one value per sample (b), or one per frame (b t) where the levels have.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from mien.diffusion.schedule import Levels, expand_to

Denoise = Callable[[Float[Tensor, " b *dims"], Shaped[Tensor, " b *t"]], Float[Tensor, " b *dims"]]


def ddim(
    denoise: Denoise, noise: Float[Tensor, " b *dims"], levels: Levels
) -> Float[Tensor, " b *dims"]:
    """DDIM with eta 0 (arXiv 2010.02502): predicted x0 and noise are remixed at each level."""
    x = noise * expand_to(levels.sigma[0], noise)
    for here in range(len(levels.level) - 1):
        clean, implied = _split(denoise, x, levels, here)
        alpha, sigma = expand_to(levels.alpha[here + 1], x), expand_to(levels.sigma[here + 1], x)
        x = alpha * clean + sigma * implied
    return x


def multistep(
    denoise: Denoise, noise: Float[Tensor, " b *dims"], levels: Levels
) -> Float[Tensor, " b *dims"]:
    """DDIM of second order: each step takes the x0 of its middle, extrapolated from the predictions
    at this level and the one before (Adams-Bashforth in t, as in DEIS, arXiv 2204.13902).
    """
    x, before = noise * expand_to(levels.sigma[0], noise), None
    for here in range(len(levels.level) - 1):
        middle = clean = _clean(denoise, x, levels, here)
        if before is not None:
            steps = levels.level[here - 1 : here + 2].diff(dim=0)
            share = torch.where(steps[0] == 0, 0.0, steps[1] / steps[0] / 2)  # a level may repeat
            middle = clean + expand_to(share, x) * (clean - before)
        implied = _implied(x, middle, levels, here)
        alpha, sigma = expand_to(levels.alpha[here + 1], x), expand_to(levels.sigma[here + 1], x)
        x, before = alpha * middle + sigma * implied, clean
    return x


def euler(
    denoise: Denoise, noise: Float[Tensor, " b *dims"], levels: Levels
) -> Float[Tensor, " b *dims"]:
    """Euler steps along the probability-flow ODE; on the `flow` schedule it equals DDIM.

    Raises:
        ValueError: the levels are discrete timesteps, which have no slopes.
    """
    if levels.alpha_slope is None or levels.sigma_slope is None:
        raise ValueError("euler needs a continuous schedule; use ddim with discrete timesteps")
    x = noise * expand_to(levels.sigma[0], noise)
    for here in range(len(levels.level) - 1):
        clean, implied = _split(denoise, x, levels, here)
        slopes = expand_to(levels.alpha_slope[here], x), expand_to(levels.sigma_slope[here], x)
        slope = slopes[0] * clean + slopes[1] * implied
        x = x + expand_to(levels.level[here + 1] - levels.level[here], x) * slope
    return x


def guided(both: Denoise, weight: float) -> Denoise:
    """Classifier-free guidance: the unconditional prediction, and `weight` times the difference of
    the conditional one from it. `both` predicts twice the batch at once: the conditional samples,
    then the unconditional ones.
    """

    def denoise(
        x: Float[Tensor, " b *dims"], level: Shaped[Tensor, " b *t"]
    ) -> Float[Tensor, " b *dims"]:
        conditional, plain = both(torch.cat((x, x)), torch.cat((level, level))).chunk(2)
        return plain + weight * (conditional - plain)

    return denoise


def _split(
    denoise: Denoise, x: Float[Tensor, " b *dims"], levels: Levels, here: int
) -> tuple[Float[Tensor, " b *dims"], Float[Tensor, " b *dims"]]:
    """The predicted clean sample of `x`, and the noise that it implies."""
    clean = _clean(denoise, x, levels, here)
    return clean, _implied(x, clean, levels, here)


def _clean(
    denoise: Denoise, x: Float[Tensor, " b *dims"], levels: Levels, here: int
) -> Float[Tensor, " b *dims"]:
    level = levels.level[here]
    return denoise(x, level.expand(x.shape[0]) if level.ndim == 0 else level)


def _implied(
    x: Float[Tensor, " b *dims"], clean: Float[Tensor, " b *dims"], levels: Levels, here: int
) -> Float[Tensor, " b *dims"]:
    alpha, sigma = expand_to(levels.alpha[here], x), expand_to(levels.sigma[here], x)
    return (x - alpha * clean) / sigma
