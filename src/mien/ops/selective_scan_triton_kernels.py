"""The Triton kernels of the selective scan, forward and backward.

A program takes a few channels of one sequence and walks through time in chunks. Within a chunk all
steps are combined at once: doing (a1, x1) and then (a2, x2) is doing (a1 a2, a2 x1 + x2).

Letters as in the reference. TIME is a chunk's length, STATES the power of two that holds n, ROWS
the channels of a program; tiles are (STATES, TIME). Never set `num_stages` here: states are handed
from chunk to chunk through memory, which loads that run ahead would read too early.
"""

import inspect
from collections.abc import Callable
from typing import Any

import triton
import triton.language as tl


def _kernel(function: Callable) -> Any:
    """Compile on the first call; wrappers of the function (a shape check) are removed first.

    Triton would compile once more for each argument that is 1 or a multiple of 16; specialisation
    is disabled for those whose size changes nothing in the code.
    """
    plain = inspect.unwrap(function)
    same = [name for name in ("batch", "chunks") if name in inspect.signature(plain).parameters]
    return triton.jit(do_not_specialize=same)(plain)


@_kernel
def _follow(a1, x1, a2, x2):
    return a1 * a2, a2 * x1 + x2


@_kernel
def _numbers(given, at, inside):
    return tl.load(given + at, mask=inside, other=0.0).to(tl.float32)


@_kernel
def _raw_step(delta, bias, row, d, t, length, HAS_BIAS: tl.constexpr):
    raw = _numbers(delta, row * length + t, t < length)
    if HAS_BIAS:
        raw += tl.load(bias + d).to(tl.float32)
    return raw


@_kernel
def _step(raw, t, length, SOFTPLUS: tl.constexpr):
    """The time step; 0 beyond the end, where the state then stays as it is."""
    step = raw
    if SOFTPLUS:
        # log(1 + e) without the bits that 1 + e loses (Kahan).
        e = tl.exp(tl.minimum(raw, 20.0))
        w = 1.0 + e
        exact = w == 1.0
        step = tl.where(exact, e, tl.log(w) * (e / tl.where(exact, 1.0, w - 1.0)))
        step = tl.where(raw > 20.0, raw, step)
    return tl.where(t < length, step, 0.0)


@_kernel
def _entry(given, n, t, size, length, VARYING: tl.constexpr):
    """B or C of a chunk, from where its group begins."""
    if VARYING:
        return _numbers(given, n * length + t, (n < size) & (t < length))
    else:
        return _numbers(given, n, n < size) + 0.0 * t


@_kernel
def _group(d, b, width, sharing, size, length, VARYING: tl.constexpr):
    """Where the entry of a channel's group begins."""
    return (b * (width // sharing) + d // sharing) * size * (length if VARYING else 1)


@_kernel
def _states(before, chunk, chunks, row, n, size, s, u_t, A_n, B_t):
    """The chunk's states, what each step pushed into them, and where the state before it lies."""
    pushed = s * u_t * B_t
    kept, h = tl.associative_scan((tl.exp(s * A_n), pushed), 1, _follow)
    place = before + (row * (chunks + 1) + chunk) * size + n
    h += kept * tl.load(place, mask=n < size, other=0.0)
    return h, pushed, place


@_kernel
def _read(h, C_t, u_t, D, d, HAS_D: tl.constexpr):
    """What comes out before the gate."""
    out = tl.sum(h * C_t, axis=0, keep_dims=True)
    if HAS_D:
        out += tl.load(D + d).to(tl.float32) * u_t
    return out


@_kernel
def forward(
    u, delta, A, B, C, D, z, bias, y, before,
    batch, width, length, size, sharing_B, sharing_C, chunks,
    ROWS: tl.constexpr, TIME: tl.constexpr, STATES: tl.constexpr,
    VARYING_B: tl.constexpr, VARYING_C: tl.constexpr, SOFTPLUS: tl.constexpr,
    HAS_D: tl.constexpr, HAS_Z: tl.constexpr, HAS_BIAS: tl.constexpr,
):  # fmt: skip
    """y, and the state after each chunk; `before` holds the initial one."""
    b = tl.program_id(0).to(tl.int64)
    first = tl.program_id(1) * ROWS
    n = tl.arange(0, STATES)[:, None]
    k = tl.arange(0, TIME)[None]
    B += _group(first, b, width, sharing_B, size, length, VARYING_B)
    C += _group(first, b, width, sharing_C, size, length, VARYING_C)
    for chunk in range(chunks):
        tl.debug_barrier()  # the states that the last chunk wrote are read by other threads
        t = chunk * TIME + k
        B_t = _entry(B, n, t, size, length, VARYING_B)
        C_t = _entry(C, n, t, size, length, VARYING_C)
        for i in range(ROWS):
            d = first + i
            row = b * width + d
            at = row * length + t
            A_n = _numbers(A, d * size + n, n < size)
            u_t = _numbers(u, at, t < length)
            s = _step(_raw_step(delta, bias, row, d, t, length, HAS_BIAS), t, length, SOFTPLUS)
            h, _, place = _states(before, chunk, chunks, row, n, size, s, u_t, A_n, B_t)
            end = tl.sum(tl.where(k == TIME - 1, h, 0.0), axis=1, keep_dims=True)
            tl.store(place + size, end, mask=n < size)
            out = _read(h, C_t, u_t, D, d, HAS_D)
            if HAS_Z:
                z_t = _numbers(z, at, t < length)
                out *= z_t * tl.sigmoid(z_t)
            tl.store(y + at, out, mask=t < length)


@_kernel
def _through_gate(dy, h, C_t, u_t, D, z, d_z, d, at, inside, HAS_D: tl.constexpr):
    """Store the gate's gradient; returns that of what it gates."""
    z_t = _numbers(z, at, inside)
    gate = tl.sigmoid(z_t)
    out = _read(h, C_t, u_t, D, d, HAS_D)
    tl.store(d_z + at, dy * out * gate * (1 + z_t * (1 - gate)), mask=inside)
    return dy * z_t * gate


@_kernel
def _through_time(carried, at_state, real, chunk, k, s, s_next, A_n, to_h):
    """The gradient of the states, g_t = to_h_t + a_{t+1} g_{t+1}; carries on what goes before the
    chunk.
    """
    passed, g = tl.associative_scan((tl.exp(s_next * A_n), to_h), 1, _follow, reverse=True)
    g += passed * tl.load(carried + at_state, mask=real, other=0.0)
    at_start = tl.sum(tl.where(k == 0, g, 0.0), axis=1, keep_dims=True)
    if chunk == 0:  # beyond the first step lies the initial state
        at_start *= tl.exp(tl.sum(tl.where(k == 0, s, 0.0)) * A_n)
    tl.store(carried + at_state, at_start, mask=real)
    return g


@_kernel
def _add(place, more, inside):
    tl.store(place, tl.load(place, mask=inside, other=0.0) + more, mask=inside)


@_kernel
def _through_step(
    g, faded, raw, s, dy, u_t, A_n, B_t, D, d_u, d_delta, d_D, d_bias, d, row, at, inside,
    SOFTPLUS: tl.constexpr, HAS_D: tl.constexpr, HAS_BIAS: tl.constexpr,
):  # fmt: skip
    """Store the gradients of the input, the time step, the skip and the bias."""
    pushed = tl.sum(g * B_t, axis=0, keep_dims=True)
    to_u = pushed * s
    if HAS_D:
        to_u += tl.load(D + d).to(tl.float32) * dy
        tl.store(d_D + row, tl.load(d_D + row) + tl.sum(dy * u_t))
    tl.store(d_u + at, to_u, mask=inside)
    to_step = tl.sum(faded * A_n, axis=0, keep_dims=True) + pushed * u_t
    if SOFTPLUS:
        to_step *= tl.where(raw > 20.0, 1.0, tl.sigmoid(raw))
    tl.store(d_delta + at, to_step, mask=inside)
    if HAS_BIAS:
        total = tl.sum(tl.where(inside, to_step, 0.0))
        tl.store(d_bias + row, tl.load(d_bias + row) + total)


@_kernel
def _put(d_entry, to_entry, n, t, size, length, VARYING: tl.constexpr):
    """Store the gradient of B or C over the program's channels."""
    if VARYING:
        tl.store(d_entry + n * length + t, to_entry, mask=(n < size) & (t < length))
    else:
        _add(d_entry + n, tl.sum(to_entry, axis=1, keep_dims=True), n < size)


@_kernel
def backward(
    u, delta, A, B, C, D, z, bias, before, to_y, carried,
    d_u, d_delta, d_A, d_B, d_C, d_D, d_z, d_bias,
    batch, width, length, size, sharing_B, sharing_C, chunks,
    ROWS: tl.constexpr, TIME: tl.constexpr, STATES: tl.constexpr,
    VARYING_B: tl.constexpr, VARYING_C: tl.constexpr, SOFTPLUS: tl.constexpr,
    HAS_D: tl.constexpr, HAS_Z: tl.constexpr, HAS_BIAS: tl.constexpr,
):  # fmt: skip
    """All gradients; `carried` comes as the last state's and goes as the initial state's."""
    b = tl.program_id(0).to(tl.int64)
    first = tl.program_id(1) * ROWS
    n = tl.arange(0, STATES)[:, None]
    k = tl.arange(0, TIME)[None]
    real = n < size
    B += _group(first, b, width, sharing_B, size, length, VARYING_B)
    C += _group(first, b, width, sharing_C, size, length, VARYING_C)
    program = tl.program_id(1).to(tl.int64) * batch + b
    d_B += program * size * (length if VARYING_B else 1)
    d_C += program * size * (length if VARYING_C else 1)
    for back in range(chunks):
        chunk = chunks - 1 - back
        tl.debug_barrier()  # what the later chunk carried over is read by other threads
        t = chunk * TIME + k
        B_t = _entry(B, n, t, size, length, VARYING_B)
        C_t = _entry(C, n, t, size, length, VARYING_C)
        to_B = tl.zeros((STATES, TIME), tl.float32)
        to_C = tl.zeros((STATES, TIME), tl.float32)
        for i in range(ROWS):
            d = first + i
            row = b * width + d
            at = row * length + t
            at_state = row * size + n
            A_n = _numbers(A, d * size + n, real)
            u_t = _numbers(u, at, t < length)
            raw = _raw_step(delta, bias, row, d, t, length, HAS_BIAS)
            s = _step(raw, t, length, SOFTPLUS)
            h, pushed, _ = _states(before, chunk, chunks, row, n, size, s, u_t, A_n, B_t)
            dy = _numbers(to_y, at, t < length)
            if HAS_Z:
                dy = _through_gate(dy, h, C_t, u_t, D, z, d_z, d, at, t < length, HAS_D)
            to_C += dy * h
            raw_next = _raw_step(delta, bias, row, d, t + 1, length, HAS_BIAS)
            s_next = _step(raw_next, t + 1, length, SOFTPLUS)
            g = _through_time(carried, at_state, real, chunk, k, s, s_next, A_n, dy * C_t)
            to_B += g * (s * u_t)
            # h_t - pushed_t is a_t h_{t-1}, but for rounding of the size of h_t's last digit.
            faded = g * (h - pushed)
            _add(d_A + at_state, tl.sum(faded * s, axis=1, keep_dims=True), real)
            _through_step(
                g, faded, raw, s, dy, u_t, A_n, B_t, D, d_u, d_delta, d_D, d_bias, d, row, at,
                t < length, SOFTPLUS, HAS_D, HAS_BIAS,
            )  # fmt: skip
        _put(d_B, to_B, n, t, size, length, VARYING_B)
        _put(d_C, to_C, n, t, size, length, VARYING_C)
