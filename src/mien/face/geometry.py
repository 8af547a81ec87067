"""Boxes and rotated squares of a picture, and how to sample them.

Axes: h w space, n points. Positions are pixels, x before y; boxes are x0 y0 x1 y1.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, UInt8

Array = np.ndarray
Box = tuple[float, float, float, float]
Picture = UInt8[Array, "h w 3"]


@dataclass(frozen=True)
class Square:
    """A square of the picture, turned by `angle` radians (clockwise on screen) about its centre."""

    x: float
    y: float
    side: float
    angle: float = 0.0

    def to_picture(self, points: Float[Array, "n 2"]) -> Float[Array, "n 2"]:
        """Places in the square ([0, 1], x before y) to pixels of the picture."""
        across, down = ((points - 0.5) * self.side).T
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        return np.stack((self.x + across * cos - down * sin, self.y + across * sin + down * cos), 1)


def sample(picture: Picture, square: Square, size: int) -> Float[Array, "size size 3"]:
    """The square at size x size in [0, 255]; black outside the picture, as the nets were trained.

    Bilinear, after averaging blocks of pixels where the square is downscaled.
    """
    block = max(1, int(square.side / size / 1.5))
    left, top, part = _part_under(picture, square, block)
    if block > 1:
        height, width = part.shape[:2]
        whole = cv2.copyMakeBorder(
            part, 0, -height % block, 0, -width % block, cv2.BORDER_REPLICATE
        )
        part = cv2.resize(whole, None, fx=1 / block, fy=1 / block, interpolation=cv2.INTER_AREA)
    corners = np.array([(0.0, 0.0), (1.0, 0.0), (0.0, 1.0)])
    places = (square.to_picture(corners) - (left, top)) / block
    # cv2's origin is the centre of the first pixel.
    move = cv2.getAffineTransform(
        (corners * size - 0.5).astype(np.float32), (places - 0.5).astype(np.float32)
    )
    return cv2.warpAffine(
        part.astype(np.float32), move, (size, size), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    )


def _part_under(
    picture: Picture, square: Square, margin: int
) -> tuple[int, int, UInt8[Array, "_ _ 3"]]:
    """Left and top edge of the part of the picture under the square, and that part (not empty)."""
    height, width = picture.shape[:2]
    reach = square.side * (abs(np.cos(square.angle)) + abs(np.sin(square.angle))) / 2 + margin + 1
    left, top = (
        int(np.clip(centre - reach, 0, length - 1))
        for centre, length in ((square.x, width), (square.y, height))
    )
    right, bottom = (int(np.ceil(centre + reach)) for centre in (square.x, square.y))
    return left, top, picture[top : max(bottom, top + 1), left : max(right, left + 1)]


def overlap(a: Box, b: Box) -> float:
    """Intersection over union."""
    both = area(a) + area(b) - common(a, b)
    return common(a, b) / both if both > 0 else 0.0


def common(a: Box, b: Box) -> float:
    """Area of the intersection, in square pixels."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    return max(0.0, width) * max(0.0, height)


def area(box: Box) -> float:
    """Square pixels."""
    return (box[2] - box[0]) * (box[3] - box[1])


def box_around(points: Float[Array, "n xyz"]) -> Box:
    """The upright box that holds all points."""
    (x0, y0), (x1, y1) = points[:, :2].min(axis=0), points[:, :2].max(axis=0)
    return float(x0), float(y0), float(x1), float(y1)


def turn_of(left: Float[Array, " xyz"], right: Float[Array, " xyz"]) -> float:
    """The angle in radians that the line from `left` to `right` is turned clockwise from level."""
    across, down = (right - left)[:2]
    return float(np.arctan2(down, across))


def tiles(width: int, height: int, side: float) -> list[Square]:
    """Squares that cover the picture, each overlapping its neighbours by half."""

    def centres(length: int) -> Array:
        if length <= side:
            return np.array([length / 2])
        count = int(np.ceil((length - side) / (side / 2))) + 1
        return np.linspace(side / 2, length - side / 2, count)

    return [Square(float(x), float(y), side) for y in centres(height) for x in centres(width)]
