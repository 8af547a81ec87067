"""Group normalisation, and SiLU after it, compiled by numba for maps with channels innermost.

All channels of some pixels are one row of numbers, which the compiler vectorises over whatever
their number is. bfloat16 is the upper half of a float32: numbers are widened and rounded as bits.
Letters as in `mien.ops.normalization`.
"""

import math

import numpy as np
import torch
from torch import Tensor

from mien.config import require_multiple
from mien.ops.normalization import PIXELS
from mien.ops.numba_compiler import compiled, in_threads, threads_for

_ROW = 1024  # numbers in a row, where its pixels are fewer than PIXELS: rows stay in the cache
_LOG2_E = np.float32(math.log2(math.e))
_FURTHEST = np.float32(126)  # the exponents of float32 that are finite and not 0
# Added to t, it leaves t rounded, plus the 127 that exponents are stored with, in the lowest bits.
_ROUNDING = np.float32(1.5 * 2**23 + 127)
_POWER_OF_2 = tuple(np.float32(math.log(2) ** n / math.factorial(n)) for n in range(7))  # Taylor's


def normalize_groups_numba(
    x: Tensor, groups: int, weight: Tensor, bias: Tensor, eps: float, silu: bool = False
) -> Tensor:
    """As `F.group_norm` of channels-last maps on the CPU, float32 or bfloat16, without gradients,
    and `F.silu` of it; with as many threads as torch, each for some of the maps. Computes in
    float32.

    Raises:
        ValueError: the pixels of a map are not a multiple of PIXELS.
    """
    b, c, h, w = x.shape
    out = torch.empty_like(x, memory_format=torch.channels_last)
    require_multiple("pixels", h * w, "those of a row", PIXELS)
    numbers = torch.int16 if x.dtype == torch.bfloat16 else torch.float32
    pixels = min(PIXELS, 2 ** (max(_ROW // c, 1).bit_length() - 1))  # both are powers of two
    shape = b, h * w // pixels, pixels * c
    rows, into = (
        maps.detach().permute(0, 2, 3, 1).view(numbers).view(shape).numpy() for maps in (x, out)
    )
    affine = torch.stack((weight, bias)).detach().float().numpy()
    size = np.array((groups, c, silu))
    in_threads(_normalize, threads_for(b), (rows, into, affine, size, eps))
    return out


@compiled
def _load(row, numbers, bits):
    """A row as float32 `numbers`, whose bits `bits` are; bfloat16 comes as int16."""
    for i in range(row.shape[0]):
        if row.itemsize == 4:
            numbers[i] = row[i]
        else:
            bits[i] = np.uint32(np.uint16(row[i])) << np.uint32(16)


@compiled
def _store(numbers, bits, into):
    """The opposite: bfloat16 rounded to the nearest, halves to even."""
    one, half, upper = np.uint32(1), np.uint32(0x7FFF), np.uint32(16)
    for i in range(into.shape[0]):
        if into.itemsize == 4:
            into[i] = numbers[i]
        else:
            into[i] = np.int16((bits[i] + half + (bits[i] >> upper & one)) >> upper)


@compiled
def _add(numbers, pivot, sums, squares):
    """A row's numbers, less those of the first row, to each column's sums."""
    for i in range(numbers.shape[0]):
        away = numbers[i] - pivot[i]
        sums[i] += away
        squares[i] += away * away


@compiled
def _scale(pivot, sums, squares, count, affine, size, eps, scale, shift):
    """What a row's numbers are multiplied by and what is added then; `count` rows were summed."""
    groups, c = size[0], size[1]
    per, columns = c // groups, sums.shape[0]
    for first in range(0, c, per):
        mean = 0.0
        for pixel in range(first, columns, c):
            for i in range(pixel, pixel + per):
                mean += pivot[i] + sums[i] / count
        lanes = columns // groups
        mean /= lanes
        variance = 0.0
        for pixel in range(first, columns, c):
            for i in range(pixel, pixel + per):
                own = sums[i] / count
                away = pivot[i] + own - mean
                variance += squares[i] / count - own * own + away * away
        inverse = 1 / np.sqrt(max(variance / lanes, 0.0) + eps)
        for pixel in range(first, columns, c):
            for channel in range(first, first + per):
                i = pixel + channel - first
                scale[i] = affine[0, channel] * inverse
                shift[i] = affine[1, channel] - mean * scale[i]


def _activate(numbers, fractions, powers, bits):
    """SiLU of a row in place, x / (1 + 2^t) with t = -x log2 e: 2 to the nearest whole number, made
    of its `bits` (those of `powers`), times a polynomial of what remains (1e-7).
    """
    c0, c1, c2, c3, c4, c5, c6 = _POWER_OF_2
    for i in range(numbers.shape[0]):
        t = min(max(-numbers[i] * _LOG2_E, -_FURTHEST), _FURTHEST)
        rounded = t + _ROUNDING
        f = t - (rounded - _ROUNDING)
        fractions[i] = c0 + f * (c1 + f * (c2 + f * (c3 + f * (c4 + f * (c5 + f * c6)))))
        powers[i] = rounded
    for i in range(numbers.shape[0]):
        bits[i] = bits[i] << 23
    for i in range(numbers.shape[0]):
        numbers[i] = numbers[i] / (np.float32(1) + fractions[i] * powers[i])


# Not reassociated: adding and subtracting _ROUNDING rounds.
_activate = compiled(_activate, frozenset({"contract"}))


@compiled
def _normalize(rows, out, affine, size, eps, worker, workers):
    b, count, columns = rows.shape
    sums, squares = np.empty(columns, np.float32), np.empty(columns, np.float32)
    scale, shift = np.empty(columns, np.float32), np.empty(columns, np.float32)
    numbers, powers = np.empty(columns, np.float32), np.empty(columns, np.float32)
    bits, of_powers = numbers.view(np.uint32), powers.view(np.uint32)
    for k in range(b * worker // workers, b * (worker + 1) // workers):
        sums[:], squares[:] = 0, 0
        _load(rows[k, 0], numbers, bits)
        pivot = numbers.copy()
        for r in range(count):
            _load(rows[k, r], numbers, bits)
            _add(numbers, pivot, sums, squares)
        _scale(pivot, sums, squares, count, affine, size, eps, scale, shift)
        for r in range(count):
            _load(rows[k, r], numbers, bits)
            for i in range(columns):
                numbers[i] = numbers[i] * scale[i] + shift[i]
            if size[2]:
                _activate(numbers, sums, powers, of_powers)
            _store(numbers, bits, out[k, r])
