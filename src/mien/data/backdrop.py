"""Background replacement for people who were filmed in front of a blue screen (chroma key).

Studio footage shows every head in front of one plain wall, and a net that has seen no other cannot
separate a moving head from a static flag or bookcase. A blue screen is keyed out by its colour; the
new background is synthetic: overlapping shapes of all sizes ("dead leaves", Lee, Mumford, Huang
2001, which have the statistics of natural pictures).
Axes: h w space. Pictures are RGB in [-1, 1].
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Generator, Tensor

from mien.data.colors import Recoloring

# Threshold of blue minus red, in grey levels of 255, and the softness of the matte's edge.
# GRID's walls are at 90 to 200, skin and hair below 0, its denim jackets below 50.
WALL_FROM, WALL_FADE = 62.0, 6.0
CYAN = 40.0  # a lit wall is cyan: that much less green than blue still counts as blue
CORNER = 0.08  # of the picture: the upper corners show the wall, not the shoulders
LEAST_WALL = 0.95  # of them

DRAWN = 128  # pixels a side that backdrops are drawn at
MOST_SHAPES = 48
SMALLEST, SPREAD, TAIL = 0.03, 0.04, 1.2  # sizes of the shapes: a power law


def matte_of(picture: Float[Tensor, "3 h w"]) -> Float[Tensor, "1 h w"] | None:
    """1 on the person, 0 on the blue screen behind; None if there is no blue screen."""
    red, green, blue = 127.5 * picture
    bluer = torch.minimum(blue, green + CYAN) - red
    matte = torch.sigmoid((WALL_FROM - bluer) / WALL_FADE)[None]
    rows, columns = (max(1, round(CORNER * side)) for side in picture.shape[1:])
    corners = torch.stack((matte[:, :rows, :columns], matte[:, :rows, -columns:]))
    return matte if corners.mean() < 1 - LEAST_WALL else None


def without_spill(picture: Float[Tensor, "3 h w"]) -> Float[Tensor, "3 h w"]:
    """Remove the blue spill of the screen from the person."""
    red, green, blue = picture
    return torch.stack((red, green, torch.minimum(blue, torch.maximum(red, green))))


@dataclass(frozen=True)
class Backdrop:
    """A new background, and how the person in front of it is recoloured."""

    picture: Float[Tensor, "3 h w"]
    recolor: Recoloring

    @classmethod
    def draw(cls, size: int, color: float, gamma: float, generator: Generator) -> "Backdrop":
        """A random one; `color` and `gamma` as Recoloring.draw takes them."""
        return cls(draw_backdrop(size, generator), Recoloring.draw(color, gamma, generator))

    def behind(self, frame: Float[Tensor, "_ h w"]) -> Float[Tensor, "3 h w"]:
        """Composite a frame, whose fourth channel is its matte, over this background."""
        person = self.recolor(without_spill(frame[:3]))
        return torch.lerp(self.picture, person, frame[3:4].clamp(0, 1))


def draw_backdrop(size: int, generator: Generator) -> Float[Tensor, "3 h w"]:
    """Discs, bars and stripes over each other, sharp or out of focus."""
    count = int(torch.randint(8, MOST_SHAPES + 1, (), generator=generator))
    numbers = torch.rand(count, 8, generator=generator)
    colours = 0.45 * torch.randn(count + 1, 3, 1, 1, generator=generator)
    centres = (torch.arange(DRAWN) + 0.5) / DRAWN
    y, x = torch.meshgrid(centres, centres, indexing="ij")
    base = 1.4 * torch.rand(3, 1, 1, generator=generator) - 0.7
    picture = (base + colours[count]).expand(3, DRAWN, DRAWN)
    for one, colour in zip(numbers.tolist(), base + colours[:count], strict=True):
        picture = torch.where(_shape(x, y, *one), colour, picture)
    return _out_of_focus(picture, size, generator).clamp(-1, 1)


def _shape(
    x: Float[Tensor, "h w"],
    y: Float[Tensor, "h w"],
    kind: float,
    left: float,
    top: float,
    size: float,
    ratio: float,
    turned: float,
    wave: float,
    share: float,
) -> Bool[Tensor, "h w"]:
    """The mask of one shape; eight numbers in [0, 1] choose its kind, place, size and angle."""
    size = SMALLEST + SPREAD * (max(1 - size, 1e-3) ** (-1 / TAIL) - 1)
    angle = math.pi * turned if share < 0.4 else 0.0
    x, y = x - left, y - top
    across = x * math.cos(angle) + y * math.sin(angle)
    along = y * math.cos(angle) - x * math.sin(angle)
    if kind < 0.35:
        return across.square() + along.square() < size**2
    if kind < 0.7:
        return (across.abs() < size) & (along.abs() < size * (0.2 + 6 * ratio))
    inside = (across.abs() < 2 * size) & (along.abs() < 2 * size)
    return inside & (torch.sin(across * (20 + 130 * wave)) > ratio - 0.5)


def _out_of_focus(
    picture: Float[Tensor, "3 d d"], size: int, generator: Generator
) -> Float[Tensor, "3 h w"]:
    if torch.rand((), generator=generator) < 0.4:
        fine = int(2 ** torch.randint(3, 7, (), generator=generator))
        picture = F.interpolate(picture[None], (fine, fine), mode="area")[0]
    return F.interpolate(picture[None], (size, size), mode="bilinear", antialias=True)[0]
