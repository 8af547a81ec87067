"""The selective scan in Triton: our own CUDA kernels, compiled on first use, no build step.

The forward pass keeps the state before each chunk of time; from it the backward pass computes the
rest again. A program sums the gradients of B and C over its own channels and torch adds up the
programs' sums, where atomic additions would give other bytes every time. States are float32
whatever the inputs.

Letters as in the reference.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import triton
from torch import Tensor

from mien.ops.scan_inputs import ScanInputs, grouped
from mien.ops.selective_scan_triton_kernels import backward, forward

_TIME = 128
_ENOUGH_PROGRAMS = 512  # enough to fill any GPU; beyond that, channels share the loads of B and C
_MOST_ROWS = 16


def selective_scan_triton(inputs: ScanInputs) -> tuple[Tensor, Tensor]:
    """As `selective_scan_reference`, on CUDA; the last state is float32."""
    batch, width, _ = inputs.u.shape
    B, C = grouped(inputs.B, batch), grouped(inputs.C, batch)
    state = inputs.initial_state
    if state is None:
        state = inputs.u.new_zeros(batch, width, inputs.A.shape[1], dtype=torch.float32)
    given = (inputs.u, inputs.delta, inputs.A, B, C, inputs.D, inputs.z, inputs.delta_bias, state)
    return _Scan.apply(*given, inputs.delta_softplus)  # pyright: ignore[reportReturnType]


class _Scan(torch.autograd.Function):
    """Both kernels, and what passes between them."""

    @staticmethod
    def forward(ctx, u, delta, A, B, C, D, z, bias, state, softplus):  # noqa: D102
        given = u, delta, A, B, C, D, z, bias
        given = tuple(None if tensor is None else tensor.contiguous() for tensor in given)
        plan = _Plan.of(u, A, B, C)
        y = torch.empty_like(u, memory_format=torch.contiguous_format)
        before = u.new_empty(*state.shape[:2], plan.chunks + 1, state.shape[2], dtype=torch.float32)
        before[:, :, 0] = state
        with torch.cuda.device_of(u):  # kernels start on the current device otherwise
            forward[plan.grid](*given, y, before, **plan.settings(given, softplus))
        ctx.save_for_backward(*given, before)
        ctx.plan, ctx.softplus, ctx.state_type = plan, softplus, state.dtype
        return y, before[:, :, -1].clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, to_y, to_last):  # noqa: D102
        *given, before = ctx.saved_tensors
        u, delta, A, B, C, D, z, bias = given
        plan: _Plan = ctx.plan
        d_u, d_delta = torch.empty_like(u), torch.empty_like(delta)
        d_z = None if z is None else torch.empty_like(z)
        zeros, empty = _float32(torch.zeros, u), _float32(torch.empty, u)
        d_A, d_D, d_bias = zeros(len(u), *A.shape), zeros(*u.shape[:2]), zeros(*u.shape[:2])
        # Those of fixed entries are added to, those of varying ones are written once.
        d_B, d_C = (
            (zeros if g.shape[3] == 1 else empty)(plan.grid[1], len(u), *g.shape[2:])
            for g in (B, C)
        )
        carried = to_last.float().clone(memory_format=torch.contiguous_format)
        results = d_u, d_delta, d_A, d_B, d_C, d_D, d_z, d_bias
        settings = plan.settings(given, ctx.softplus)
        with torch.cuda.device_of(u):
            backward[plan.grid](*given, before, to_y.contiguous(), carried, *results, **settings)
        return (
            d_u, d_delta, d_A.sum(0).to(A.dtype), _by_group(d_B, B), _by_group(d_C, C),
            None if D is None else d_D.sum(0).to(D.dtype), d_z,
            None if bias is None else d_bias.sum(0).to(bias.dtype), carried.to(ctx.state_type),
            None,
        )  # fmt: skip


def _float32(make: Callable[..., Tensor], like: Tensor) -> Callable[..., Tensor]:
    return lambda *shape: make(shape, dtype=torch.float32, device=like.device)


def _by_group(sums: Tensor, like: Tensor) -> Tensor:
    """The programs' gradients (programs b n t), added up for each group, as (b g n t)."""
    groups = like.shape[1]
    return sums.unflatten(0, (groups, -1)).sum(1).transpose(0, 1).to(like.dtype)


@dataclass(frozen=True)
class _Plan:
    """How the work is divided into programs and chunks."""

    grid: tuple[int, int]  # sequences, programs a sequence
    rows: int
    chunks: int
    numbers: dict[str, int]

    @classmethod
    def of(cls, u: Tensor, A: Tensor, B: Tensor, C: Tensor) -> "_Plan":
        batch, width, length = u.shape
        sharing = width // B.shape[1], width // C.shape[1]  # channels of a group
        rows = 1
        while (
            rows < _MOST_ROWS
            and all(channels % (2 * rows) == 0 for channels in sharing)
            and batch * width // (2 * rows) >= _ENOUGH_PROGRAMS
        ):
            rows *= 2
        numbers = dict(
            batch=batch, width=width, length=length, size=A.shape[1],
            sharing_B=sharing[0], sharing_C=sharing[1],
        )  # fmt: skip
        return cls((batch, width // rows), rows, triton.cdiv(length, _TIME), numbers)

    def settings(self, given: Any, softplus: bool) -> dict[str, Any]:
        """The kernels' numbers and constants."""
        _, _, A, B, C, D, z, bias = given
        return self.numbers | dict(
            chunks=self.chunks, ROWS=self.rows, TIME=_TIME,
            STATES=max(2, triton.next_power_of_2(A.shape[1])),
            VARYING_B=B.shape[3] > 1, VARYING_C=C.shape[3] > 1, SOFTPLUS=softplus,
            HAS_D=D is not None, HAS_Z=z is not None, HAS_BIAS=bias is not None,
        )  # fmt: skip
