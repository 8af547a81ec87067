"""The random warp of pictures that augmentations share: mirror, affine part, smooth bend.

Axes: h w space.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Generator, Tensor

from mien.ops.warp import identity_grid


@dataclass(frozen=True)
class WarpConfig:
    """Strength of the warp; all zero turns it off. Deviations are standard deviations."""

    bend: float = 0.06  # deviation of the smooth warp's control points (2 spans the picture)
    bend_points: int = 4  # control points a side
    stretch: float = 0.08  # deviation of the log of width and height
    turn: float = 4.0  # deviation of the rotation, degrees
    shift: float = 0.04  # deviation of the translation
    flip: float = 0.5  # chance of a mirror image


def bent_grid(
    height: int, width: int, config: WarpConfig, generator: Generator
) -> Float[Tensor, "h w 2"]:
    """The sampling grid of the warped picture."""
    stretch = torch.exp(config.stretch * torch.randn(2, generator=generator))
    angle = torch.deg2rad(config.turn * torch.randn(1, generator=generator))
    shift = config.shift * torch.randn(2, generator=generator)
    flipped = torch.rand(1, generator=generator) < config.flip
    points = torch.randn(1, 2, config.bend_points, config.bend_points, generator=generator)

    grid = identity_grid(height, width, like=stretch) * stretch
    grid = turned(grid, angle) + shift
    bend = F.interpolate(points, size=(height, width), mode="bicubic", align_corners=True)[0]
    grid = grid + config.bend * bend.permute(1, 2, 0)
    return torch.cat((torch.where(flipped, -grid[..., :1], grid[..., :1]), grid[..., 1:]), dim=-1)


def turned(grid: Float[Tensor, "h w 2"], angle: Float[Tensor, " 1"]) -> Float[Tensor, "h w 2"]:
    """The positions of `grid`, rotated about the centre by `angle` (radians)."""
    turn = torch.stack((torch.cos(angle), -torch.sin(angle), torch.sin(angle), torch.cos(angle)))
    return grid @ turn.view(2, 2).T
