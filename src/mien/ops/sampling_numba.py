"""Bilinear sampling compiled by numba for the CPU.

Positions and weights are computed once for all channels of a pixel, a row at a time, which the
compiler vectorises over the row. Maps of several channels are read with the channels innermost in
memory, where a tap is one contiguous piece; maps of few channels are read a plane at a time.
Letters as in `mien.ops.sampling`.
"""

import numpy as np
from torch import Tensor

from mien.config import require_multiple
from mien.ops.numba_compiler import compiled, in_threads, threads_for
from mien.ops.sampling import PLANES

Array = np.ndarray
_LEAST = 2**15  # pixels that are worth a thread


def sample_maps_numba(maps: Tensor, places: Tensor) -> Tensor:
    """As `sample_maps`, on the CPU in float32, without gradients; with as many threads as torch.

    Raises:
        ValueError: the grids are not a multiple of the maps.
    """
    b, h2, w2, _ = places.shape
    require_multiple("grids", b, "maps", maps.shape[0])
    workers = threads_for(b * h2 * w2 // _LEAST)
    planes = maps.shape[1] <= PLANES
    sampled = maps.new_empty((b, maps.shape[1], h2, w2) if planes else (b, h2, w2, maps.shape[1]))
    sample_into(maps.detach().numpy(), places.detach().numpy(), sampled.numpy(), workers)
    return sampled if planes else sampled.permute(0, 3, 1, 2)


def sample_into(maps: Array, places: Array, into: Array, workers: int = 1) -> None:
    """Fill `into`, which is contiguous, with samples of maps (n c h1 w1): b c h2 w2 if there are at
    most PLANES channels, else b h2 w2 c.
    """
    n, c, h, w = maps.shape
    size, rows = np.array((n, h, w, places.shape[1]), np.int32), _rows(places)
    if c <= PLANES:
        planes = np.ascontiguousarray(maps, np.float32).reshape(n, c, h * w)
        in_threads(_planes, workers, (planes, rows, size, into))
        return
    pixels = np.ascontiguousarray(maps.transpose(0, 2, 3, 1), np.float32).reshape(n, h * w, c)
    lines = into.reshape(len(rows), places.shape[2], c)
    in_threads(_pixels, workers, (pixels, rows, size, lines))


def _rows(places: Array) -> Array:
    b, h2, w2, _ = places.shape
    return np.ascontiguousarray(places, np.float32).reshape(b * h2, 2 * w2)


@compiled
def row_buffers(w):
    """Places of a row, and where they lie among pixels."""
    places, first = np.empty(2 * w, np.float32), np.empty(w, np.int32)
    return places, first, np.empty(w, np.float32), np.empty(w, np.float32)


@compiled
def move_row(move, row, h, into):
    """The displacement of a row by an affine move (2 3), x y by turns."""
    w, one = into.shape[0] // 2, np.float32(1)
    y = np.float32(2 * row + 1) / np.float32(h) - one
    step = one / np.float32(w)
    a, b = move[0, 0], move[1, 0]
    c, d = move[0, 1] * y + move[0, 2], move[1, 1] * y + move[1, 2]
    for i in range(w):
        x = np.float32(2 * i + 1) * step - one
        into[2 * i] = a * x + c
        into[2 * i + 1] = b * x + d


@compiled
def place_row(flow, row, h, places):
    """The places (x y by turns) that a row is moved to by its displacement (x y by turns)."""
    w, one = flow.shape[0] // 2, np.float32(1)
    y = np.float32(2 * row + 1) / np.float32(h) - one
    step = np.float32(1) / np.float32(w)
    for i in range(w):
        places[2 * i] = np.float32(2 * i + 1) * step - one + flow[2 * i]
        places[2 * i + 1] = y + flow[2 * i + 1]


@compiled
def locate(row, h, w, first, right, down):
    """The first of the four pixels around each place of a row (x and y by turns), and how far the
    place lies from it. Comparisons are written so that NaN becomes 0.
    """
    zero, one, half = np.float32(0), np.float32(1), np.float32(0.5)
    last_x, last_y = np.float32(w - 1), np.float32(h - 1)
    most_x, most_y = np.int32(max(w - 2, 0)), np.int32(max(h - 2, 0))
    for i in range(first.shape[0]):
        x = ((row[2 * i] + one) * np.float32(w) - one) * half
        y = ((row[2 * i + 1] + one) * np.float32(h) - one) * half
        x = x if x > zero else zero
        y = y if y > zero else zero
        x = x if x < last_x else last_x
        y = y if y < last_y else last_y
        left, top = np.int32(x), np.int32(y)
        left = left if left < most_x else most_x
        top = top if top < most_y else most_y
        first[i] = top * w + left
        right[i] = x - np.float32(left)
        down[i] = y - np.float32(top)


@compiled
def sample_row(plane, w, h, first, right, down, into):
    """Samples of a plane (h * w) at the places of a row (`locate`)."""
    aside, below, one = np.int32(w > 1), np.int32(w if h > 1 else 0), np.float32(1)
    for i in range(into.shape[0]):
        a = first[i]
        b = a + below
        x, y = right[i], down[i]
        near_x, near_y = one - x, one - y
        upper = near_x * plane[a] + x * plane[a + aside]
        lower = near_x * plane[b] + x * plane[b + aside]
        into[i] = near_y * upper + y * lower


@compiled
def _planes(planes, rows, size, out, worker, workers):
    n, h, w, h2 = size
    _, first, right, down = row_buffers(rows.shape[1] // 2)
    for k in range(len(rows) * worker // workers, len(rows) * (worker + 1) // workers):
        locate(rows[k], h, w, first, right, down)
        frame, line = divmod(k, h2)
        for c in range(planes.shape[1]):
            sample_row(planes[frame % n, c], w, h, first, right, down, out[frame, c, line])


@compiled
def _pixels(pixels, rows, size, out, worker, workers):
    n, h, w, h2 = size
    w2, aside, below = rows.shape[1] // 2, np.int32(w > 1), np.int32(w if h > 1 else 0)
    _, first, right, down = row_buffers(w2)
    for k in range(len(rows) * worker // workers, len(rows) * (worker + 1) // workers):
        locate(rows[k], h, w, first, right, down)
        picture, line = pixels[k // h2 % n], out[k]
        for i in range(w2):
            a = first[i]
            b = a + below
            x, y = right[i], down[i]
            near_x, near_y = np.float32(1) - x, np.float32(1) - y
            u, v, s, t = near_x * near_y, x * near_y, near_x * y, x * y
            p, q, r, z, into = (
                picture[a],
                picture[a + aside],
                picture[b],
                picture[b + aside],
                line[i],
            )
            for c in range(into.shape[0]):
                into[c] = u * p[c] + v * q[c] + s * r[c] + t * z[c]
