"""Framing: the square around a face that clips and portraits are cropped to.

Boxes are x0 y0 x1 y1 in pixels.
"""

import numpy as np
from jaxtyping import Float

from mien.face.geometry import Box
from mien.types import Framing

# The framing of training clips: medians of 60 clips of 11 people, per person. The box around the
# landmarks is 0.537 of the picture high and its centre is 0.549 from the top.
PORTRAIT_SIDE = 1 / 0.537
PORTRAIT_CENTRE = 0.549
MARGIN = 0.12  # of the face's height, around all positions of the face in a clip
HEADROOM = -0.5  # of the face's height, from its top up to the upper edge of a half body's square


def framed(face: Box, framing: Framing, width: int, height: int) -> Box:
    """The square around a face (as `face_box` draws it) in a picture of that width and height.

    `face` is `portrait_box`, which may exceed the picture; `half_body` is as large as the picture
    allows, from above the head down.
    """
    if framing == "face":
        return portrait_box(face)
    x0, y0, x1, y1 = face
    side, top = float(min(width, height)), y0 + HEADROOM * (y1 - y0)
    x, y = (
        float(np.clip(middle, side / 2, length - side / 2))
        for middle, length in (((x0 + x1) / 2, width), (top + side / 2, height))
    )
    return x - side / 2, y - side / 2, x + side / 2, y + side / 2


def framed_clip(faces: Float[np.ndarray, "t 4"], framing: Framing, width: int, height: int) -> Box:
    """The square of a clip whose face has these boxes, in whole pixels: framed around the median of
    them; that of a face is wider if the head moves out of it.
    """
    x0, y0, x1, y1 = (float(edge) for edge in np.median(faces, axis=0))
    left, top, right, bottom = framed((x0, y0, x1, y1), framing, width, height)
    side, x, y = right - left, (left + right) / 2, (top + bottom) / 2
    if framing == "face":
        margin = MARGIN * (y1 - y0)
        low, high = faces[:, :2].min(axis=0) - margin, faces[:, 2:].max(axis=0) + margin
        reach = max(abs(high - (x, y)).max(), abs((x, y) - low).max())
        side = max(side, 2 * reach)
    side = max(2, round(side))
    left, top = round(x - side / 2), round(y - side / 2)
    return float(left), float(top), float(left + side), float(top + side)


def portrait_box(face: Box) -> Box:
    """The square around a face (as `face_box` draws it) that frames it like the training clips."""
    x0, y0, x1, y1 = face
    side = PORTRAIT_SIDE * (y1 - y0)
    left = (x0 + x1) / 2 - side / 2
    top = (y0 + y1) / 2 - PORTRAIT_CENTRE * side
    return left, top, left + side, top + side
