"""Bounded and smooth least squares over all frames of a clip at once.

The second differences of every value in time are penalised, which is a smoother without lag: the
half-amplitude frequency of each value is chosen, and what is slower passes.
Axes: t frames, n values of a frame.
"""

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.linalg import solveh_banded

from mien.face.geometry import Array

_RIGID = 1.0  # diagonal of a value that does not move


def smoothing_weights(
    curvature: Float[Array, "t n n"], cutoff: Float[Array, " n"], fps: float
) -> Float[Array, " n"]:
    """Weights of squared second differences with which half of the amplitude stays at `cutoff`
    (Hz); from half the frame rate on nothing is smoothed.
    """
    strength = np.einsum("tnn->n", curvature) / len(curvature)
    turn = 2 * np.pi * cutoff / fps
    gain = np.square(2 - 2 * np.cos(np.minimum(turn, np.pi)))
    return np.where(turn < np.pi, strength / gain, 0.0)


def second_difference_gradient(
    values: Float[Array, "t n"], frames: Int[Array, " t"]
) -> Float[Array, "t n"]:
    """The gradient of half the squared second differences; a lost frame interrupts it."""
    joined = _joined(frames)[:, None]
    second = joined * (values[:-2] - 2 * values[1:-1] + values[2:])
    found = np.zeros_like(values)
    found[:-2] += second
    found[1:-1] -= 2 * second
    found[2:] += second
    return found


def solve(
    curvature: Float[Array, "t n n"],
    gradient: Float[Array, "t n"],
    smooth: Float[Array, " n"],
    frames: Int[Array, " t"],
    fixed: Bool[Array, "t n"],
) -> Float[Array, "t n"]:
    """The Newton step of all frames; values that are `fixed` make none.

    Raises:
        LinAlgError: the equations have no finite solution.
    """
    t, n = gradient.shape
    free = ~fixed
    blocks = curvature * (free[:, :, None] & free[:, None])
    joined = _joined(frames)
    weight = np.zeros((3, t))  # on the frame itself, between it and the next, and the one after
    weight[0, :-2] += joined
    weight[0, 1:-1] += 4 * joined
    weight[0, 2:] += joined
    weight[1, :-2] -= 2 * joined
    weight[1, 1:-1] -= 2 * joined
    weight[2, :-2] += joined
    banded = np.zeros((2 * n + 1, t, n))
    for j in range(n):
        banded[: n - j, :, j] = blocks[:, j:, j].T
    banded[0] += np.where(free, weight[0][:, None] * smooth, _RIGID)
    for step in (1, 2):
        both = free[:-step] & free[step:]
        banded[step * n, :-step] += both * weight[step][:-step, None] * smooth
    wanted = np.where(free, gradient, 0.0).reshape(-1)
    found = solveh_banded(
        banded.reshape(2 * n + 1, t * n), wanted, lower=True, overwrite_ab=True, check_finite=False
    )
    if not np.isfinite(found).all():
        raise np.linalg.LinAlgError("the step is not finite")
    return found.reshape(t, n)


def _joined(frames: Int[Array, " t"]) -> Float[Array, " triples"]:
    """1 for every three rows that are neighbouring frames."""
    return (frames[2:] - frames[:-2] == 2).astype(np.float64)
