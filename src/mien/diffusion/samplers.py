"""From noise to something clean. A sampler sees a denoiser, noise and levels; nothing else.

`denoise(x, level)` answers with the clean thing it sees in `x`; `level` has one number a sample.
Axes: b batch, t frames, k dimensions.
"""

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor

from mien.diffusion.schedule import Levels

Denoise = Callable[[Float[Tensor, "b t k"], Float[Tensor, " b"]], Float[Tensor, "b t k"]]


def ddim(denoise: Denoise, noise: Float[Tensor, "b t k"], levels: Levels) -> Float[Tensor, "b t k"]:
    """DDIM with eta 0 (arXiv 2010.02502): remix the clean guess and its noise at each level."""
    x = noise * levels.sigma[0]
    for here in range(len(levels.level) - 1):
        clean, implied = _split(denoise, x, levels, here)
        x = levels.alpha[here + 1] * clean + levels.sigma[here + 1] * implied
    return x


def euler(
    denoise: Denoise, noise: Float[Tensor, "b t k"], levels: Levels
) -> Float[Tensor, "b t k"]:
    """Euler steps along the probability-flow ODE; on the `flow` schedule it equals DDIM."""
    x = noise * levels.sigma[0]
    for here in range(len(levels.level) - 1):
        clean, implied = _split(denoise, x, levels, here)
        slope = levels.alpha_slope[here] * clean + levels.sigma_slope[here] * implied
        x = x + (levels.level[here + 1] - levels.level[here]) * slope
    return x


def guided(told: Denoise, untold: Denoise, weight: float) -> Denoise:
    """Classifier-free guidance: `weight` times the way from the untold answer to the told one."""
    if weight == 1:
        return told

    def denoise(x: Float[Tensor, "b t k"], level: Float[Tensor, " b"]) -> Float[Tensor, "b t k"]:
        plain = untold(x, level)
        return plain + weight * (told(x, level) - plain)

    return denoise


def _split(
    denoise: Denoise, x: Float[Tensor, "b t k"], levels: Levels, here: int
) -> tuple[Float[Tensor, "b t k"], Float[Tensor, "b t k"]]:
    """The clean thing in `x`, and the noise that must then be in it."""
    clean = denoise(x, levels.level[here].expand(x.shape[0]))
    return clean, (x - levels.alpha[here] * clean) / levels.sigma[here]
