"""The selective scan of Mamba: the scan, a single step of it, and its back ends.

Axes and names are mamba-ssm's: b batch, d channels, l time, n state, g groups of channels.
"""

import os
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from mien.ops.back_ends import BackEnd, Operation, Unusable
from mien.ops.scan_inputs import ScanInputs
from mien.ops.selective_scan_doubling import selective_scan_doubling
from mien.ops.selective_scan_reference import selective_scan_reference

Scan = Callable[[ScanInputs], tuple[Tensor, Tensor]]


def selective_scan(
    u: Float[Tensor, "b d l"],
    delta: Float[Tensor, "b d l"],
    A: Float[Tensor, "d n"],
    B: Float[Tensor, "d n"] | Float[Tensor, "b n l"] | Float[Tensor, "b gB n l"],
    C: Float[Tensor, "d n"] | Float[Tensor, "b n l"] | Float[Tensor, "b gC n l"],
    D: Float[Tensor, " d"] | None = None,
    z: Float[Tensor, "b d l"] | None = None,
    delta_bias: Float[Tensor, " d"] | None = None,
    delta_softplus: bool = False,
    return_last_state: bool = False,
    *,
    initial_state: Float[Tensor, "b d n"] | None = None,
    back_end: str | None = None,
) -> Float[Tensor, "b d l"] | tuple[Float[Tensor, "b d l"], Float[Tensor, "b d n"]]:
    """h_t = exp(s_t A) h_{t-1} + s_t B_t u_t and y_t = C_t h_t + D u_t, times silu(z_t).

    The time step s is `delta` plus `delta_bias`, through softplus if requested (arXiv 2312.00752,
    algorithm 2). The meaning is that of mamba-ssm's `selective_scan_fn`, with real A; beyond it,
    `initial_state` is the h before the first step (zero without it), and gradients flow through the
    last state too.

    Args:
        u: the input.
        delta: the raw time step.
        A: decay rate of each channel's states; negative for a state that decays.
        B: how the input enters the state: fixed, varying, or varying by groups of channels.
        C: how the state is read, likewise.
        D: weight of the skip connection from input to output.
        z: the gate.
        delta_bias: added to `delta`.
        delta_softplus: whether the time step goes through softplus.
        return_last_state: whether the state after the last step is returned as well, in float32
            (float64 for such inputs).
        initial_state: the state to start from.
        back_end: reference, numba, triton, mamba_ssm or doubling; without it, what MIEN_SCAN
            names, or else the fastest that works for these inputs here.

    Raises:
        ValueError: shapes do not fit together, or A is complex.
        UserError: the requested back end cannot take these inputs.
    """
    given = (u, delta, A, B, C, D, z, delta_bias, delta_softplus, initial_state)
    inputs = ScanInputs(*given)
    refuse = _Refusal(inputs, return_last_state)
    if torch.compiler.is_exporting():  # a graph for any length has no loop over time
        back_end = "doubling"
    _, scan = SELECTIVE_SCAN.choose(u.device.type, refuse, back_end)
    y, state = scan(inputs)
    return (y, state) if return_last_state else y


def selective_scan_step(
    state: Float[Tensor, "b d n"],
    u: Float[Tensor, "b d"],
    delta: Float[Tensor, "b d"],
    A: Float[Tensor, "d n"],
    B: Float[Tensor, "b n"] | Float[Tensor, "b gB n"],
    C: Float[Tensor, "b n"] | Float[Tensor, "b gC n"],
    D: Float[Tensor, " d"] | None = None,
    z: Float[Tensor, "b d"] | None = None,
    delta_bias: Float[Tensor, " d"] | None = None,
    delta_softplus: bool = False,
) -> tuple[Float[Tensor, "b d"], Float[Tensor, "b d n"]]:
    """One time step of `selective_scan`: the output, and the state for the next step.

    Arguments are those of `selective_scan` without the time axis; so B and C have a batch axis, and
    a fixed one is expanded over it. A step is a few small products on any device, so it has no back
    ends.
    """
    gate = None if z is None else z[..., None]
    inputs = ScanInputs(
        u[..., None], delta[..., None], A, B[..., None], C[..., None], D, gate,
        delta_bias, delta_softplus, state,
    )  # fmt: skip
    y, state = selective_scan_reference(inputs)
    return y[..., 0], state


class _Refusal:
    """The reason why a back end cannot take these inputs, or None."""

    def __init__(self, inputs: ScanInputs, last_state: bool) -> None:
        self.inputs = inputs
        self.last_state = last_state

    def __call__(self, name: str) -> str | None:
        u = self.inputs.u
        if name == "numba" and u.device.type != "cpu":
            return f"it runs on the CPU, and the inputs are on {u.device}"
        if name in ("triton", "mamba_ssm"):
            interpreted = name == "triton" and os.environ.get("TRITON_INTERPRET") == "1"
            if not u.is_cuda and not interpreted:
                return f"it runs on CUDA, and the inputs are on {u.device}"
            if u.dtype == torch.float64:
                return "it computes in float32, and the inputs are float64"
        return self._upstream() if name == "mamba_ssm" else None

    def _upstream(self) -> str | None:
        """mamba-ssm's own limits."""
        inputs = self.inputs
        if inputs.initial_state is not None:
            return "it takes no initial state"
        if inputs.A.shape[1] > 256:
            return f"it takes a state size of at most 256, and A has {inputs.A.shape[1]}"
        groups = [1 if g.ndim < 4 else g.shape[1] for g in (inputs.B, inputs.C)]
        if groups[0] != groups[1]:
            return f"it takes B and C in the same groups, and they have {groups[0]} and {groups[1]}"
        tensors = [given for given in vars(inputs).values() if isinstance(given, Tensor)]
        if self.last_state and torch.is_grad_enabled() and any(t.requires_grad for t in tensors):
            return "it loses the last state's gradient"
        return None


def _load_numba() -> Scan:
    from mien.ops.selective_scan_numba import selective_scan_numba

    return selective_scan_numba


def _load_triton() -> Scan:
    if not (torch.cuda.is_available() or os.environ.get("TRITON_INTERPRET") == "1"):
        raise Unusable("torch sees no CUDA device (TRITON_INTERPRET=1 runs it slowly on the CPU)")
    from mien.ops.selective_scan_triton import selective_scan_triton

    return _tried(selective_scan_triton)


def _load_mamba_ssm() -> Scan:
    from mamba_ssm.ops.selective_scan_interface import (  # pyright: ignore[reportMissingImports]
        selective_scan_fn,
    )

    def scan(inputs: ScanInputs) -> tuple[Tensor, Tensor]:
        # What varies in time has the type of u, all else is float32.
        kind = inputs.u.dtype
        B, C = (g.to(kind) if g.ndim > 2 else g.float() for g in (inputs.B, inputs.C))
        D, bias = (None if g is None else g.float() for g in (inputs.D, inputs.delta_bias))
        z = None if inputs.z is None else inputs.z.to(kind)
        given = (inputs.u, inputs.delta.to(kind), inputs.A.float(), B, C, D, z, bias)
        return selective_scan_fn(*given, inputs.delta_softplus, True)

    return _tried(scan)


def _tried(scan: Scan) -> Scan:
    """The scan itself, after a forward and backward pass on a tiny input: packages for CUDA import
    even where no compiler is found, or where they were built for another GPU.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with torch.inference_mode(False), torch.enable_grad():
        u = torch.ones(1, 1, 1, device=device, requires_grad=True)
        A, B = -torch.ones(1, 1, device=device), torch.ones(1, 1, 1, device=device)
        y, _ = scan(ScanInputs(u, u, A, B, B, None, None, None, True, None))
        y.sum().backward()
    return scan


SELECTIVE_SCAN: Operation[Scan] = Operation(
    "the selective scan",
    "MIEN_SCAN",
    (
        BackEnd("mamba_ssm", ("cuda",), _load_mamba_ssm),
        BackEnd("triton", ("cuda",), _load_triton),
        BackEnd("numba", ("cpu",), _load_numba),
        BackEnd("reference", (), lambda: selective_scan_reference),
        BackEnd("doubling", (), lambda: selective_scan_doubling),  # for graphs, never chosen
    ),
)
