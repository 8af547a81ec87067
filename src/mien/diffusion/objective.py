"""Parameterisations of the denoiser's prediction, and the training loss.

One objective with four forms: the clean sample (x0), the noise (the paper's L_simple), the velocity
from clean to noise (flow matching), or the velocity along the circle of alpha and sigma ("v", arXiv
2202.00512). Every form is converted to x0, because the paper's velocity and acceleration losses are
on predicted motion.
Axes: b batch, t frames; samples may have any axes, and one noise level per sample (b) or per frame
(b t).
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from mien.diffusion.schedule import Levels, expand_to
from mien.ops.precision import full_precision

Parameterisation = Literal["x0", "noise", "flow", "v"]

_SMALLEST_ALPHA = 0.02  # at pure noise the noise does not determine x0; bounds the error


@dataclass(frozen=True)
class LossWeights:
    """Weights of the three terms: the prediction itself, frame differences, their differences."""

    prediction: float = 1.0
    velocity: float = 1.0
    acceleration: float = 1.0


@full_precision
def add_noise(
    clean: Float[Tensor, " b *dims"], noise: Float[Tensor, " b *dims"], levels: Levels
) -> Float[Tensor, " b *dims"]:
    """Mix `clean` with `noise`, one level for each sample or frame."""
    return expand_to(levels.alpha, clean) * clean + expand_to(levels.sigma, clean) * noise


@full_precision
def training_target(
    clean: Float[Tensor, " b *dims"],
    noise: Float[Tensor, " b *dims"],
    levels: Levels,
    form: Parameterisation,
) -> Float[Tensor, " b *dims"]:
    """The target that the denoiser is trained on."""
    if form == "x0":
        return clean
    if form == "v":
        return expand_to(levels.alpha, clean) * noise - expand_to(levels.sigma, clean) * clean
    return noise if form == "noise" else noise - clean


@full_precision
def to_clean(
    prediction: Float[Tensor, " b *dims"],
    mixture: Float[Tensor, " b *dims"],
    levels: Levels,
    form: Parameterisation,
) -> Float[Tensor, " b *dims"]:
    """Convert a prediction of the net to x0."""
    if form == "x0":
        return prediction
    alpha, sigma = expand_to(levels.alpha, prediction), expand_to(levels.sigma, prediction)
    if form == "noise":
        return (mixture - sigma * prediction) / alpha.clamp(min=_SMALLEST_ALPHA)
    if form == "v":
        return (alpha * mixture - sigma * prediction) / (alpha.square() + sigma.square())
    return (mixture - sigma * prediction) / (alpha + sigma)


@full_precision
def objective(
    prediction: Float[Tensor, "b t *dims"],
    mixture: Float[Tensor, "b t *dims"],
    clean: Float[Tensor, "b t *dims"],
    noise: Float[Tensor, "b t *dims"],
    levels: Levels,
    form: Parameterisation,
    weights: LossWeights,
    importance: Float[Tensor, "*#dims"],
    frames: Float[Tensor, "b t"] | None = None,
) -> tuple[Float[Tensor, ""], dict[str, Float[Tensor, ""]]]:
    """Squared errors of the prediction, and of the first and second frame differences of x0.

    `importance` weights the dimensions, `frames` the prediction's frames (None: equally). With the
    noise form the difference terms are weighted by alpha²: x0 is there divided by alpha and would
    explode near pure noise. If frames have their own noise levels, the noisiest frame of a
    difference determines its weight.
    """
    clean_error = to_clean(prediction, mixture, levels, form) - clean
    error = prediction - training_target(clean, noise, levels, form)
    if frames is not None:
        error = error * expand_to((frames / frames.mean()).sqrt(), error)
    confidence = levels.alpha.square() if form == "noise" else torch.ones_like(levels.alpha)
    terms = {"prediction": _score(error, importance).mean()}
    for order, name in enumerate(("velocity", "acceleration"), start=1):
        if confidence.ndim == 2:
            confidence = torch.minimum(confidence[:, 1:], confidence[:, :-1])
        difference = clean_error.diff(n=order, dim=1)
        terms[name] = _weighted_by_confidence(difference, importance, confidence)
    loss = (
        weights.prediction * terms["prediction"]
        + weights.velocity * terms["velocity"]
        + weights.acceleration * terms["acceleration"]
    )
    return loss, {name: term.detach() for name, term in terms.items()}


def _weighted_by_confidence(
    error: Float[Tensor, "b t *dims"], importance: Float[Tensor, "*#dims"], confidence: Tensor
) -> Float[Tensor, ""]:
    """The mean score, each sample (b) or each frame (b t) weighted by `confidence`."""
    if confidence.ndim == 1:
        return (confidence * _score(error, importance)).mean()
    return _score(error * expand_to(confidence.sqrt(), error), importance).mean()


def _score(
    gap: Float[Tensor, "b t *dims"], importance: Float[Tensor, "*#dims"]
) -> Float[Tensor, " b"]:
    """Weighted mean square for each sample; nothing to compare (one frame) scores zero."""
    weighted = gap.square() * importance
    return weighted.sum(dim=tuple(range(1, gap.ndim))) / max(gap[0].numel(), 1)
