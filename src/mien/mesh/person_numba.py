"""Where a moved head shows the person and where no more; the loops are compiled by numba.

Axes: t frames, h w space.
"""

import cv2
import numpy as np
from jaxtyping import Float

from mien.ops.numba_compiler import compiled
from mien.ops.sampling_numba import locate, move_row, place_row, row_buffers, sample_row

Array = np.ndarray


def moved_person(
    person: Float[Array, "h w"],
    heads: Float[Array, "t 2 3"],
    ellipses: Float[Array, "t 4"],
    fades: float,
    unsure: int,
) -> tuple[Float[Array, "t h w"], Float[Array, "t h w"]]:
    """The person mask sampled at every place moved by `heads` (`Guide.head`), eroded by `unsure`
    pixels, and the mask less that one dilated by as many; both times the ellipse of the head.

    `ellipses` are the middle (x y) and the half axes in pixels; beyond them the result falls to 0
    over the share `fades` of the axes.
    """
    covered = np.zeros((len(heads), *person.shape), np.float32)
    disoccluded, there = np.zeros_like(covered), np.empty(person.shape, np.float32)
    whole = np.ascontiguousarray(person, np.float32)
    kernel = np.ones((2 * unsure + 1, 2 * unsure + 1), np.uint8)
    for k, (head, ellipse) in enumerate(zip(heads, ellipses.astype(np.float32), strict=True)):
        _sample(whole, np.ascontiguousarray(head, np.float32), there)
        masks = whole, cv2.erode(there, kernel), cv2.dilate(there, kernel)
        _within(*masks, ellipse, np.float32(fades), covered[k], disoccluded[k])
    return covered, disoccluded


@compiled
def _sample(person, head, into):
    """The mask at every place moved by the head."""
    h, w = person.shape
    plane, moved = person.reshape(h * w), np.empty(2 * w, np.float32)
    places, first, right, down = row_buffers(w)
    for row in range(h):
        move_row(head, row, h, moved)
        place_row(moved, row, h, places)
        locate(places, h, w, first, right, down)
        sample_row(plane, w, h, first, right, down, into[row])


@compiled
def _within(person, least, most, ellipse, fades, covered, disoccluded):
    """Fill both masks within the ellipse."""
    half, one, zero = np.float32(0.5), np.float32(1), np.float32(0)
    for row in range(person.shape[0]):
        y = (np.float32(row) + half - ellipse[1]) / ellipse[3]
        if abs(y) >= one + fades:
            continue
        for i in range(person.shape[1]):
            x = (np.float32(i) + half - ellipse[0]) / ellipse[2]
            zone = min(max((one - np.sqrt(x * x + y * y)) / fades + one, zero), one)
            covered[row, i] = least[row, i] * zone
            disoccluded[row, i] = max(person[row, i] - most[row, i], zero) * zone
