"""The selective scan in plain torch: the definition, and a backend for every device.

Letters are those of the Mamba paper (arXiv 2312.00752, algorithm 2), shapes those of mamba-ssm:
b batch, d channels, l time, n state. The work is laid time-first and unbound once before the loop,
because indexing inside it would make autograd build a full-size gradient for every step.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def selective_scan_reference(
    u: Float[Tensor, "b d l"],
    delta: Float[Tensor, "b d l"],
    A: Float[Tensor, "d n"],
    B: Float[Tensor, "b n l"],
    C: Float[Tensor, "b n l"],
    D: Float[Tensor, " d"] | None = None,
    z: Float[Tensor, "b d l"] | None = None,
    delta_bias: Float[Tensor, " d"] | None = None,
    delta_softplus: bool = False,
) -> tuple[Float[Tensor, "b d l"], Float[Tensor, "b d n"]]:
    """Run h_t = exp(delta_t A) h_{t-1} + delta_t B_t u_t and read y_t = C_t h_t + D u_t.

    Half-precision inputs are computed in float32 (the exponentials overflow otherwise); float64
    stays float64. Returns y in the type of `u`, and the last state h in the type of the work.
    """
    kind = torch.promote_types(u.dtype, torch.float32)
    inputs, step = u.to(kind), delta.to(kind)
    if delta_bias is not None:
        step = step + delta_bias.to(kind)[:, None]
    if delta_softplus:
        step = F.softplus(step)

    step_first = step.permute(2, 0, 1)  # (l b d)
    decay = torch.exp(step_first[..., None] * A.to(kind))  # (l b d n)
    drive = (step * inputs).permute(2, 0, 1)[..., None] * B.to(kind).permute(2, 0, 1)[:, :, None]

    state = torch.zeros_like(drive[0])
    states = []
    for keep, new in zip(decay.unbind(0), drive.unbind(0), strict=True):
        state = torch.addcmul(new, keep, state)
        states.append(state)
    with torch.autocast(u.device.type, enabled=False):  # which would round the sum to half
        y = torch.einsum("lbdn,bnl->bdl", torch.stack(states), C.to(kind))

    if D is not None:
        y = y + D.to(kind)[:, None] * inputs
    if z is not None:
        y = y * F.silu(z.to(kind))
    return y.to(u.dtype), state
