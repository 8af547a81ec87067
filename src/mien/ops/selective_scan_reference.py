"""The selective scan in plain torch: the definition, and a back end for every device.

Letters are those of the Mamba paper (arXiv 2312.00752, algorithm 2), shapes those of mamba-ssm:
b batch, d channels, l time, n state, g groups of channels that share B and C. The work is laid
time-first and unbound once before the loop, because indexing inside it would make autograd build a
full-size gradient for every step.
"""

from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from mien.ops.scan_inputs import Core, ScanInputs, grouped


def selective_scan_reference(inputs: ScanInputs) -> tuple[Tensor, Tensor]:
    """y (b d l) in the type of `u`, and the last state (b d n) in the type of the work."""
    return with_skip_and_gate(scan_core, inputs)


def with_skip_and_gate(core: Core, inputs: ScanInputs) -> tuple[Tensor, Tensor]:
    """Everything but the recurrence h_t = exp(delta_t A) h_{t-1} + delta_t B_t u_t, which `core`
    computes: the time step before it, the skip D u and the gate silu(z) after it.

    Half-precision inputs are computed in float32 (the exponentials overflow otherwise); float64
    stays float64.
    """
    kind = torch.promote_types(inputs.u.dtype, torch.float32)
    u, step = inputs.u.to(kind), inputs.delta.to(kind)
    if inputs.delta_bias is not None:
        step = step + inputs.delta_bias.to(kind)[:, None]
    if inputs.delta_softplus:
        step = F.softplus(step)
    batch, width, _ = u.shape
    state = inputs.initial_state
    if state is None:
        state = u.new_zeros(batch, width, inputs.A.shape[1])
    B = grouped(inputs.B, batch).to(kind)
    C = grouped(inputs.C, batch).to(kind)
    with _without_autocast(u.device.type):
        y, last = core(step, u, inputs.A.to(kind), B, C, state.to(kind))

    if inputs.D is not None:
        y = y + inputs.D.to(kind)[:, None] * u
    if inputs.z is not None:
        y = y * F.silu(inputs.z.to(kind))
    return y.to(inputs.u.dtype), last


def _without_autocast(device: str) -> AbstractContextManager:
    """Autocast would round sums to half; not every device has it."""
    if torch.amp.is_autocast_available(device):
        return torch.autocast(device, enabled=False)
    return nullcontext()


def scan_core(
    step: Tensor, u: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """The recurrence, and y_t = C_t h_t; see `Core` for the shapes."""
    groups = B.shape[1]
    step_first = step.permute(2, 0, 1)  # (l b d)
    decay = torch.exp(step_first[..., None] * A)  # (l b d n)
    pushed = rearrange((step * u).permute(2, 0, 1), "l b (g r) -> l b g r 1", g=groups)
    drive = pushed * rearrange(B, "b g n l -> l b g 1 n")
    drive = rearrange(drive, "l b g r n -> l b (g r) n")

    states = []
    for keep, new in zip(decay.unbind(0), drive.unbind(0), strict=True):
        state = torch.addcmul(new, keep, state)
        states.append(state)
    history = rearrange(torch.stack(states), "l b (g r) n -> l b g r n", g=C.shape[1])
    C = C.expand(-1, -1, -1, history.shape[0])
    return torch.einsum("lbgrn,bgnl->bgrl", history, C).flatten(1, 2), state
