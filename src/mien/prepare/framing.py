"""The crop of a clip: one fixed square of the video, in which the head moves.

Positions are pixels, x before y. Axes: h w space.
"""

import cv2
import numpy as np
from jaxtyping import UInt8

from mien.face import Box, Picture, crop, framed_clip
from mien.face.geometry import area, common
from mien.media import to_bytes
from mien.prepare.spans import Span
from mien.types import Framing


def square_of(span: Span, framing: Framing, width: int, height: int) -> Box:
    """The clip's square, in whole pixels; it may extend beyond the picture."""
    return framed_clip(span.faces.faces, framing, width, height)


def share_inside(box: Box, width: int, height: int) -> float:
    """The fraction of the box that lies inside the picture."""
    return common(box, (0.0, 0.0, float(width), float(height))) / area(box)


def cut_out(picture: Picture, square: Box, size: int) -> UInt8[np.ndarray, "size size 3"]:
    """The square at size x size, cropped as portraits are at inference."""
    return to_bytes(crop(picture, square, size))[0]


def resized(square: Picture, size: int) -> UInt8[np.ndarray, "size size 3"]:
    """A square picture at another size."""
    way = cv2.INTER_AREA if len(square) > size else cv2.INTER_CUBIC
    return cv2.resize(square, (size, size), interpolation=way)  # pyright: ignore


def in_square(box: Box, square: Box, size: int) -> Box:
    """A box of the picture in pixels of the clip."""
    scale = size / (square[2] - square[0])
    x0, y0, x1, y1 = (
        (edge - corner) * scale for edge, corner in zip(box, square[:2] * 2, strict=True)
    )
    return x0, y0, x1, y1
