"""The selective scan compiled by numba for the CPU: a tight loop per channel, forward and backward.

Plain torch spends its time moving (l b d n) tensors through memory; here the state of a channel
stays in the L1 cache. Channels are divided among threads, and each thread sums its own gradients of
B and C.

Letters as in the reference; `row` counts channels over the batch, `worker` threads.
"""

import functools
import inspect
import logging
import math
import time

import numba
import numpy as np
import torch
from numba.extending import overload
from torch import Tensor

from mien.ops.numba_compiler import compiled, in_threads, threads_for
from mien.ops.scan_inputs import ScanInputs
from mien.ops.selective_scan_reference import with_skip_and_gate

# Sums over the state may be taken in any order, which lets them be vectorised; NaN stays NaN.
_FAST = frozenset(("reassoc", "contract", "nsz"))
_log = logging.getLogger("mien")
_compiled = functools.partial(compiled, fastmath=_FAST)


def selective_scan_numba(inputs: ScanInputs) -> tuple[Tensor, Tensor]:
    """As `selective_scan_reference`, on the CPU."""
    return with_skip_and_gate(_scan, inputs)


def _scan(
    step: Tensor, u: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    return _Scan.apply(step, u, A, B, C, state)  # pyright: ignore[reportReturnType]


class _Scan(torch.autograd.Function):
    """The recurrence and its derivative by hand; states are recomputed, not kept."""

    @staticmethod
    def forward(ctx, step, u, A, B, C, state):  # noqa: D102
        given = (_array(step), _array(u), _array(A), _time_first(B), _time_first(C), _array(state))
        y, last = np.empty_like(given[1]), np.empty_like(given[5])
        _in_threads(_forward, threads_for(u.shape[0] * u.shape[1]), (*given, y, last))
        ctx.save_for_backward(step, u, A, B, C, state)
        return torch.from_numpy(y), torch.from_numpy(last)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, to_y, to_last):  # noqa: D102
        step, u, A, B, C, state = ctx.saved_tensors
        batch, _, length = u.shape
        given = (_array(step), _array(u), _array(A), _time_first(B), _time_first(C), _array(state))
        workers = threads_for(u.shape[0] * u.shape[1])
        d_step, d_u, d_state = (np.empty_like(given[i]) for i in (0, 1, 5))
        d_A = np.empty((batch, *A.shape), given[2].dtype)
        d_B, d_C = (np.zeros((workers, *given[i].shape), given[i].dtype) for i in (3, 4))
        # The decays and states of one channel for each thread: all that grows with the length.
        scratch = np.empty((workers, 2, length + 1, A.shape[1]), given[0].dtype)
        out = (d_step, d_u, d_A, d_B, d_C, d_state)
        _in_threads(_backward, workers, (*given, _array(to_y), _array(to_last), *out, scratch))
        tensors = d_step, d_u, d_A.sum(0), _time_last(d_B), _time_last(d_C), d_state
        return tuple(map(torch.as_tensor, tensors))


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().contiguous().numpy()


def _time_first(tensor: Tensor) -> np.ndarray:
    """(b g n t) -> (b g t n): what a time step reads is contiguous."""
    return _array(tensor.transpose(2, 3))


def _time_last(sums: np.ndarray) -> np.ndarray:
    """The workers' (b g t n), added up, as (b g n t)."""
    return np.ascontiguousarray(sums.sum(0).swapaxes(2, 3))


def _in_threads(kernel, workers: int, arrays: tuple) -> None:
    """Run the kernel once for every worker."""
    _make_ready(kernel, arrays)
    in_threads(kernel, workers, arrays)


def _make_ready(kernel, arrays: tuple) -> None:
    """Compile the kernel for these types; the first time, log how long it took."""
    known, hits = len(kernel.signatures), sum(kernel.stats.cache_hits.values())
    begin = time.perf_counter()
    kernel.compile((*(numba.typeof(array) for array in arrays), numba.int64, numba.int64))
    if len(kernel.signatures) > known:
        cached = sum(kernel.stats.cache_hits.values()) > hits
        how = "read from the cache" if cached else "compiled, and kept for later runs"
        seconds = time.perf_counter() - begin
        _log.info(f"{kernel.__name__[1:]} scan for {arrays[0].dtype}: {how} ({seconds:.1f} s)")


def _exp(x):
    """exp(x), for float32 in a form that the compiler vectorises (the C library's is not)."""
    return math.exp(x)


# Not reassociated: the two parts of ln(2) below would be added up again.
@overload(_exp, jit_options={"fastmath": {"contract"}})
def _exp_compiled(x):
    return inspect.unwrap(_exp_float32) if x == numba.float32 else lambda x: math.exp(x)


def _exp_float32(x):
    """2^k e^r with |r| <= ln(2) / 2: the Taylor polynomial of degree 7 is exact to the last bit or
    two. Beyond e^88.3 it stays there (2e38), below e^-87.3 as well (1e-38); NaN stays NaN.
    """
    low, high = np.float32(-87.3), np.float32(88.3)
    x = low if x < low else x
    x = high if x > high else x
    k = np.floor(x * np.float32(1.44269504) + np.float32(0.5))
    # ln(2) in two parts, so that the difference keeps all its bits.
    r = x - k * np.float32(0.693359375) + k * np.float32(2.12194440e-4)
    y = np.float32(1 / 5040)
    y = y * r + np.float32(1 / 720)
    y = y * r + np.float32(1 / 120)
    y = y * r + np.float32(1 / 24)
    y = y * r + np.float32(1 / 6)
    y = y * r + np.float32(1 / 2)
    y = y * r + np.float32(1)
    y = y * r + np.float32(1)
    return y * np.int32((np.int32(k) + np.int32(127)) << np.int32(23)).view(np.float32)


@_compiled
def _forward(step, u, A, B, C, state, y, last, worker, workers):
    batch, width, length = u.shape
    size = A.shape[1]
    rows = batch * width
    h = np.empty(size, u.dtype)
    for row in range(rows * worker // workers, rows * (worker + 1) // workers):
        b, d = divmod(row, width)
        a = A[d]
        Bs = B[b, d // (width // B.shape[1])]
        Cs = C[b, d // (width // C.shape[1])]
        for n in range(size):
            h[n] = state[b, d, n]
        for t in range(length):
            s = step[b, d, t]
            x = s * u[b, d, t]
            Bt = Bs[t if len(Bs) > 1 else 0]
            Ct = Cs[t if len(Cs) > 1 else 0]
            out = u.dtype.type(0)
            for n in range(size):
                h[n] = _exp(s * a[n]) * h[n] + x * Bt[n]
                out += h[n] * Ct[n]
            y[b, d, t] = out
        for n in range(size):
            last[b, d, n] = h[n]


@_compiled
def _backward(
    step, u, A, B, C, state, to_y, to_last, d_step, d_u, d_A, d_B, d_C, d_state, scratch,
    worker, workers,
):  # fmt: skip
    batch, width, length = u.shape
    size = A.shape[1]
    rows = batch * width
    decay, h = scratch[worker]  # h[t] is the state before step t
    g = np.empty(size, u.dtype)
    for row in range(rows * worker // workers, rows * (worker + 1) // workers):
        b, d = divmod(row, width)
        a, d_a = A[d], d_A[b, d]
        group_B, group_C = d // (width // B.shape[1]), d // (width // C.shape[1])
        Bs, d_Bs = B[b, group_B], d_B[worker, b, group_B]
        Cs, d_Cs = C[b, group_C], d_C[worker, b, group_C]

        for n in range(size):
            h[0, n] = state[b, d, n]
            g[n] = to_last[b, d, n]
            d_a[n] = 0
        for t in range(length):
            s = step[b, d, t]
            x = s * u[b, d, t]
            Bt = Bs[t if len(Bs) > 1 else 0]
            for n in range(size):
                decay[t, n] = _exp(s * a[n])
                h[t + 1, n] = decay[t, n] * h[t, n] + x * Bt[n]

        for t in range(length - 1, -1, -1):
            s, x, dy = step[b, d, t], u[b, d, t], to_y[b, d, t]
            at_B = t if len(Bs) > 1 else 0
            at_C = t if len(Cs) > 1 else 0
            Bt, d_Bt, Ct, d_Ct = Bs[at_B], d_Bs[at_B], Cs[at_C], d_Cs[at_C]
            to_step = u.dtype.type(0)
            to_push = u.dtype.type(0)
            for n in range(size):
                to_h = g[n] + dy * Ct[n]
                d_Ct[n] += dy * h[t + 1, n]
                d_Bt[n] += to_h * s * x
                to_push += to_h * Bt[n]
                to_exponent = to_h * decay[t, n] * h[t, n]
                to_step += to_exponent * a[n]
                d_a[n] += to_exponent * s
                g[n] = to_h * decay[t, n]
            d_step[b, d, t] = to_step + to_push * x
            d_u[b, d, t] = to_push * s
        for n in range(size):
            d_state[b, d, n] = g[n]
