"""The last steps of a guided frame, compiled by numba for the CPU: the displacement of the picture
(`mien.portrait.guide.follow`) and the composition of the frame (`mien.portrait.warped_picture`).

Each pixel is read once and kept, where torch writes a map for every step. Maps of the source that
all frames share are given once (p is 1 or b). Axes: b batch (frames), p pictures, g guide regions,
n side of the field, h w space.
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mien.ops.numba_compiler import compiled, in_threads, threads_for
from mien.ops.sampling_numba import locate, move_row, place_row, row_buffers, sample_row
from mien.ops.warp import unrepeated

Array = np.ndarray


def guided_flow(
    flow: Float[Tensor, "b n n 2"],
    shares: Float[Tensor, "b 2 n n"],
    moves: Float[Tensor, "b h w 2"],
    head: Float[Tensor, "b 2 3"],
    person: Float[Tensor, "b h w"],
    covered: Float[Tensor, "b h w"],
    disoccluded: Float[Tensor, "b h w"],
    found: Float[Tensor, " b"],
) -> tuple[Float[Tensor, "b h w 2"], Float[Tensor, "b h w"]]:
    """The displacement of the picture by the learned `flow` and both guide regions, 0 off the
    person, and that person mask.
    """
    coarse = torch.cat((flow.permute(0, 3, 1, 2), shares), dim=1)
    fine, shown = moves.new_empty(moves.shape), moves.new_empty(moves.shape[:3])
    maps = _shared(coarse), _lines(_shared(moves)), _shared(head), _pixels(_shared(person))
    given = *maps, *map(_shared, (covered, disoccluded, found))
    into = _lines(fine.numpy()), shown.numpy()
    in_threads(_guided_flow, threads_for(len(fine)), (*given, *into))
    return fine, shown


def composed(
    picture: Float[Tensor, "b 3 h w"],
    fine: Float[Tensor, "b h w 2"],
    person: Float[Tensor, "b h w"],
    disoccluded: Float[Tensor, "b h w"],
    found: Float[Tensor, " b"],
    background: Float[Tensor, "b 3 h w"],
    interior: Float[Tensor, "b 4 h w"],
) -> Float[Tensor, "b 3 h w"]:
    """The picture warped by `fine`, with the background where the person is no longer and the mouth
    interior.
    """
    frames = picture.new_empty(len(fine), *picture.shape[1:])
    own, flow = _shared(picture), _lines(_shared(fine))
    maps = disoccluded, found, background, interior
    given = own.reshape(*own.shape[:2], -1), flow, _pixels(_shared(person)), *map(_shared, maps)
    in_threads(_composed, threads_for(len(fine)), (*given, frames.numpy()))
    return frames


def _shared(x: Tensor) -> Array:
    return unrepeated(x).detach().contiguous().numpy()


def _lines(flow: Float[Array, "p h w 2"]) -> Float[Array, "p h w2"]:
    return flow.reshape(*flow.shape[:2], -1)


def _pixels(planes: Float[Array, "p h w"]) -> Float[Array, "p hw"]:
    return planes.reshape(len(planes), -1)


@compiled
def _columns(n, side):
    """For every one of `side` columns the two of n that it lies between, and how far along."""
    scale, half, zero = np.float32(n) / np.float32(side), np.float32(0.5), np.float32(0)
    left, right = np.empty(side, np.int32), np.empty(side, np.int32)
    aside = np.empty(side, np.float32)
    for i in range(side):
        x = max((np.float32(i) + half) * scale - half, zero)
        left[i] = int(x)
        right[i] = min(left[i] + 1, n - 1)
        aside[i] = x - np.float32(left[i])
    return left, right, aside


@compiled
def _enlarge_row(upper, lower, down, columns, into):
    """A row between two of a smaller map, bilinear, as `F.interpolate` without aligned corners."""
    left, right, aside = columns
    line = upper + down * (lower - upper)
    for i in range(into.shape[0]):
        a, b = line[left[i]], line[right[i]]
        into[i] = a + aside[i] * (b - a)


@compiled
def _span(values):
    """Where the values above 0 begin and end in a row."""
    begin, end = 0, values.shape[0]
    while begin < end and not values[begin] > 0:
        begin += 1
    while begin < end and not values[end - 1] > 0:
        end -= 1
    return begin, end


@compiled
def _mask_row(person, found, flow, row, h, buffers, span, into):
    """The span of a row of the person mask (h * w) moved by the displacement; 1 where no mesh is
    found.
    """
    places, first, right, down = buffers
    (begin, end), w, one = span, into.shape[0], np.float32(1)
    place_row(flow, row, h, places)
    first, right, down, into = first[begin:end], right[begin:end], down[begin:end], into[begin:end]
    locate(places[2 * begin : 2 * end], h, w, first, right, down)
    sample_row(person, w, h, first, right, down, into)
    for i in range(into.shape[0]):
        into[i] = one - (one - into[i]) * found


@compiled
def _mix_row(x, y, mesh_share, head_share, mesh, head, into):
    """The learned displacement, and those of the guide regions by their weights."""
    for i in range(x.shape[0]):
        m, n = mesh_share[i], head_share[i]
        into[2 * i] = x[i] + m * mesh[2 * i] + n * head[2 * i]
        into[2 * i + 1] = y[i] + m * mesh[2 * i + 1] + n * head[2 * i + 1]


@compiled
def _missing_row(covered, mask, into):
    """Where the moved head is but the field still samples background."""
    for i in range(mask.shape[0]):
        missing = covered[i] - mask[i]
        into[i] = missing if missing > np.float32(0) else np.float32(0)


@compiled
def _cover_row(share, head, span, into):
    """The head's displacement to its share, within the span."""
    for i in range(span[0], span[1]):
        x, y = into[2 * i], into[2 * i + 1]
        into[2 * i] = x + share[i] * (head[2 * i] - x)
        into[2 * i + 1] = y + share[i] * (head[2 * i + 1] - y)


@compiled
def _keep_row(mask, disoccluded, kept, into):
    """The person mask without what is disoccluded, and the displacement there alone."""
    one = np.float32(1)
    for i in range(mask.shape[0]):
        share = mask[i] * (one - disoccluded[i])
        kept[i] = share
        into[2 * i] *= share
        into[2 * i + 1] *= share


@compiled
def _guided_flow(
    coarse, moves, head, person, covered, disoccluded, found, fine, shown, worker, workers
):
    b, h, doubled = fine.shape
    w, n = doubled // 2, coarse.shape[2]
    low, columns, rows = np.empty((4, w), np.float32), _columns(n, w), _columns(n, h)
    mask, share = np.empty(w, np.float32), np.empty(w, np.float32)
    heads, buffers = np.empty(doubled, np.float32), row_buffers(w)
    for k in range(b * worker // workers, b * (worker + 1) // workers):
        known, plane = found[k % len(found)], person[k % len(person)]
        for row in range(h):
            top, bottom, down = rows[0][row], rows[1][row], rows[2][row]
            for c in range(4):
                maps = coarse[k % len(coarse), c]
                _enlarge_row(maps[top], maps[bottom], down, columns, low[c])
            flow = fine[k, row]
            move_row(head[k % len(head)], row, h, heads)
            _mix_row(low[0], low[1], low[2], low[3], moves[k % len(moves), row], heads, flow)
            _mask_row(plane, known, flow, row, h, buffers, (0, w), mask)
            _missing_row(covered[k % len(covered), row], mask, share)
            changed = _span(share)
            if changed[0] < changed[1]:
                _cover_row(share, heads, changed, flow)
                _mask_row(plane, known, flow, row, h, buffers, changed, mask)
            _keep_row(mask, disoccluded[k % len(disoccluded), row], shown[k, row], flow)


@compiled
def _gone_row(person, mask, disoccluded, into):
    """Where the source shows the person and the frame does not."""
    for i in range(into.shape[0]):
        gone, more = person[i] - mask[i], disoccluded[i]
        into[i] = gone if gone > more else more  # never below 0, as `more` is


@compiled
def _composed(
    picture, fine, person, disoccluded, found, background, interior, frames, worker, workers
):
    b, channels, h, w = frames.shape
    mask, buffers = np.empty(w, np.float32), row_buffers(w)
    for k in range(b * worker // workers, b * (worker + 1) // workers):
        plane, known = person[k % len(person)], found[k % len(found)]
        inside, behind = interior[k % len(interior)], background[k % len(background)]
        for row in range(h):
            flow, gone = fine[k % len(fine), row], disoccluded[k % len(disoccluded), row]
            _mask_row(plane, known, flow, row, h, buffers, (0, w), mask)
            _gone_row(plane[row * w : (row + 1) * w], mask, gone, mask)
            alpha = inside[channels, row]
            uncovered, mouth = _span(mask), _span(alpha)
            for c in range(channels):
                into = frames[k, c, row]
                sample_row(
                    picture[k % len(picture), c], w, h, buffers[1], buffers[2], buffers[3], into
                )
                _lerp(into, behind[c, row], mask, uncovered)
                _lerp(into, inside[c, row], alpha, mouth)


@compiled
def _lerp(into, there, share, span):
    for i in range(span[0], span[1]):
        into[i] += share[i] * (there[i] - into[i])
