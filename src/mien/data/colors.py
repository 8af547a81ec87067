"""Colour augmentation: gamma, colour matrix, tone curves.

Axes: h w space. Pictures are RGB in [-1, 1].
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import torch
from jaxtyping import Float
from torch import Generator, Tensor


def tone_curve(generator: Generator) -> Callable[[Tensor], Tensor]:
    """A random tone curve, which may make dark hair light: the net must then recognise features by
    their place and not by their brightness.
    """
    knots = torch.linspace(-1, 1, 5) + 0.45 * torch.randn(5, generator=generator)
    if torch.rand(1, generator=generator) < 0.25:
        knots = knots.flip(0)

    def curve(picture: Float[Tensor, "3 h w"]) -> Float[Tensor, "3 h w"]:
        grey = picture.mean(dim=0, keepdim=True)
        place = (grey.clamp(-1, 1) + 1) / 2 * (len(knots) - 1)
        below = place.long().clamp_max(len(knots) - 2)
        new = torch.lerp(knots[below], knots[below + 1], place - below)
        return (new + 0.5 * (picture - grey)).clamp(-1, 1)

    return curve


@dataclass(frozen=True)
class Recoloring:
    """Gamma, then a colour matrix with an offset, on pictures in [-1, 1]."""

    matrix: Tensor
    offset: Tensor
    gamma: float

    @classmethod
    def draw(cls, color: float, gamma: float, generator: Generator) -> "Recoloring":
        """Colours that deviate by `color` and a log of the gamma that deviates by `gamma`."""
        matrix = torch.eye(3) + color * torch.randn(3, 3, generator=generator)
        matrix = matrix * torch.exp(color * torch.randn(1, generator=generator))
        offset = color * torch.randn(3, 1, 1, generator=generator)
        return cls(matrix, offset, math.exp(gamma * float(torch.randn((), generator=generator))))

    def __call__(self, frame: Float[Tensor, "3 h w"]) -> Float[Tensor, "3 h w"]:
        """The picture in these colours."""
        light = ((frame + 1) / 2).clamp_(1e-4, 1)
        # Powers take most of the time that recolouring takes: cv2's are five times torch's speed.
        light = 2 * torch.from_numpy(cv2.pow(light.numpy(), self.gamma)) - 1
        return (torch.einsum("ij,jhw->ihw", self.matrix, light) + self.offset).clamp_(-1, 1)
