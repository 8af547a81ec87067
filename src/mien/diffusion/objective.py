"""What the denoiser is asked to predict, and how its answer is scored.

One objective with three forms: the clean thing (x0), the noise (the paper's L_simple), or the
velocity from clean to noise (flow matching). Every form is turned into a clean prediction, because
the paper's velocity and acceleration losses are on predicted motion.
Axes: b batch, t frames, k dimensions.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from mien.diffusion.schedule import Levels
from mien.ops.precision import full_precision

Parameterisation = Literal["x0", "noise", "flow"]

_SMALLEST_ALPHA = (
    0.02  # at pure noise the clean thing cannot be read off the noise; bound the error
)


@dataclass(frozen=True)
class LossWeights:
    """Weights of the three terms: the prediction itself, frame differences, their differences."""

    prediction: float = 1.0
    velocity: float = 1.0
    acceleration: float = 1.0


@full_precision
def noised(
    clean: Float[Tensor, "b t k"], noise: Float[Tensor, "b t k"], levels: Levels
) -> Float[Tensor, "b t k"]:
    """Mix `clean` with `noise`, one level for each sample."""
    return _spread(levels.alpha) * clean + _spread(levels.sigma) * noise


def target_of(
    clean: Float[Tensor, "b t k"], noise: Float[Tensor, "b t k"], form: Parameterisation
) -> Float[Tensor, "b t k"]:
    """What the denoiser should answer."""
    if form == "x0":
        return clean
    return noise if form == "noise" else noise - clean


@full_precision
def to_clean(
    answer: Float[Tensor, "b t k"],
    mixture: Float[Tensor, "b t k"],
    levels: Levels,
    form: Parameterisation,
) -> Float[Tensor, "b t k"]:
    """The clean thing that an answer implies."""
    if form == "x0":
        return answer
    alpha, sigma = _spread(levels.alpha), _spread(levels.sigma)
    if form == "noise":
        return (mixture - sigma * answer) / alpha.clamp(min=_SMALLEST_ALPHA)
    return (mixture - sigma * answer) / (alpha + sigma)


@full_precision
def objective(
    answer: Float[Tensor, "b t k"],
    mixture: Float[Tensor, "b t k"],
    clean: Float[Tensor, "b t k"],
    noise: Float[Tensor, "b t k"],
    levels: Levels,
    form: Parameterisation,
    weights: LossWeights,
    importance: Float[Tensor, " k"],
    frames: Float[Tensor, "b t"] | None = None,
) -> tuple[Float[Tensor, ""], dict[str, Float[Tensor, ""]]]:
    """Squared errors of the answer and of the clean motion's first and second frame differences.

    `importance` weighs the dimensions, `frames` the prediction's frames (None: all alike). With the
    noise form the differences are weighted by alpha²: there the clean prediction divides by alpha,
    and would explode near pure noise.
    """
    gap = to_clean(answer, mixture, levels, form) - clean
    wrong = answer - target_of(clean, noise, form)
    if frames is not None:
        wrong = wrong * (frames / frames.mean()).sqrt()[..., None]
    trust = levels.alpha.square() if form == "noise" else torch.ones_like(levels.alpha)
    terms = {
        "prediction": _score(wrong, importance).mean(),
        "velocity": (trust * _score(gap.diff(dim=1), importance)).mean(),
        "acceleration": (trust * _score(gap.diff(n=2, dim=1), importance)).mean(),
    }
    loss = (
        weights.prediction * terms["prediction"]
        + weights.velocity * terms["velocity"]
        + weights.acceleration * terms["acceleration"]
    )
    return loss, {name: term.detach() for name, term in terms.items()}


def _score(gap: Float[Tensor, "b t k"], importance: Float[Tensor, " k"]) -> Float[Tensor, " b"]:
    """Weighted mean square for each sample; nothing to compare (one frame) scores zero."""
    return (gap.square() * importance).sum(dim=(1, 2)) / max(gap.shape[1] * gap.shape[2], 1)


def _spread(per_sample: Float[Tensor, " b"]) -> Float[Tensor, "b 1 1"]:
    return per_sample[:, None, None]
