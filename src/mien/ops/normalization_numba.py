"""Group normalisation compiled by numba, for maps with channels innermost in memory.

All channels of some pixels are one row of numbers, which the compiler vectorises over whatever
their number is. bfloat16 is the upper half of a float32: numbers are widened and rounded as bits.
Letters as in `mien.ops.normalization`.
"""

import numpy as np
import torch
from torch import Tensor

from mien.config import require_multiple
from mien.ops.normalization import PIXELS
from mien.ops.numba_compiler import compiled, in_threads


def normalize_groups_numba(
    x: Tensor, groups: int, weight: Tensor, bias: Tensor, eps: float
) -> Tensor:
    """As `F.group_norm` of channels-last maps on the CPU, float32 or bfloat16, without gradients;
    with as many threads as torch, each for some of the maps. Computes in float32.

    Raises:
        ValueError: the pixels of a map are not a multiple of PIXELS.
    """
    b, c, h, w = x.shape
    out = torch.empty_like(x, memory_format=torch.channels_last)
    require_multiple("pixels", h * w, "those of a row", PIXELS)
    whole, kernel = torch.float32, _normalize
    if x.dtype == torch.bfloat16:
        whole, kernel = torch.int16, _normalize_16_bits
    shape = b, h * w // PIXELS, PIXELS * c
    rows, into = (
        maps.detach().permute(0, 2, 3, 1).view(whole).view(shape).numpy() for maps in (x, out)
    )
    affine = torch.stack((weight, bias)).detach().float().numpy()
    workers = max(1, min(torch.get_num_threads(), b))
    in_threads(kernel, workers, (rows, into, affine, np.array((groups, c)), eps))
    return out


@compiled
def _widen(bits, row, numbers):
    """bfloat16 (as int16) into `numbers`, a float32 row whose bits `bits` are."""
    for i in range(row.shape[0]):
        bits[i] = np.uint32(np.uint16(row[i])) << np.uint32(16)
    return numbers


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
    groups, c = size
    per, columns = c // groups, sums.shape[0]
    for g in range(groups):
        mean = 0.0
        for i in range(columns):
            if i % c // per == g:
                mean += pivot[i] + sums[i] / count
        lanes = columns // groups
        mean /= lanes
        variance = 0.0
        for i in range(columns):
            if i % c // per == g:
                own = sums[i] / count
                away = pivot[i] + own - mean
                variance += squares[i] / count - own * own + away * away
        inverse = 1 / np.sqrt(max(variance / lanes, 0.0) + eps)
        for i in range(columns):
            if i % c // per == g:
                factor = affine[0, i % c] * inverse
                scale[i], shift[i] = factor, affine[1, i % c] - mean * factor


@compiled
def _normalize(rows, out, affine, size, eps, worker, workers):
    b, count, columns = rows.shape
    sums, squares = np.empty(columns, np.float32), np.empty(columns, np.float32)
    scale, shift = np.empty(columns, np.float32), np.empty(columns, np.float32)
    for k in range(b * worker // workers, b * (worker + 1) // workers):
        sums[:], squares[:] = 0, 0
        pivot = rows[k, 0]
        for r in range(count):
            _add(rows[k, r], pivot, sums, squares)
        _scale(pivot, sums, squares, count, affine, size, eps, scale, shift)
        for r in range(count):
            row, into = rows[k, r], out[k, r]
            for i in range(columns):
                into[i] = row[i] * scale[i] + shift[i]


@compiled
def _normalize_16_bits(rows, out, affine, size, eps, worker, workers):
    b, count, columns = rows.shape
    sums, squares = np.empty(columns, np.float32), np.empty(columns, np.float32)
    scale, shift = np.empty(columns, np.float32), np.empty(columns, np.float32)
    numbers = np.empty(columns, np.float32)
    bits = numbers.view(np.uint32)
    one, half, upper = np.uint32(1), np.uint32(0x7FFF), np.uint32(16)
    for k in range(b * worker // workers, b * (worker + 1) // workers):
        sums[:], squares[:] = 0, 0
        pivot = _widen(bits, rows[k, 0], numbers).copy()
        for r in range(count):
            _add(_widen(bits, rows[k, r], numbers), pivot, sums, squares)
        _scale(pivot, sums, squares, count, affine, size, eps, scale, shift)
        for r in range(count):
            _widen(bits, rows[k, r], numbers)
            into = out[k, r]
            for i in range(columns):
                numbers[i] = numbers[i] * scale[i] + shift[i]
            for i in range(columns):  # to the nearest, halves to even
                into[i] = np.int16((bits[i] + half + (bits[i] >> upper & one)) >> upper)
