"""The selective scan without a loop over time: a back end for graphs that take any length.

h_t = a_t h_{t-1} + x_t is associative: two neighbouring parts of a sequence join to one with the
decay a a' and the input a' x + x'. After k rounds of joining each position with the one 2^k steps
before it, every position holds the result of all steps up to it. Axes as in
`mien.ops.selective_scan_reference`: b batch, d channels, l time, n state, g groups of channels.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from mien.ops.scan_inputs import ScanInputs
from mien.ops.selective_scan_reference import with_skip_and_gate

ROUNDS = 14
LONGEST = 2**ROUNDS  # steps; a longer sequence would lose its beginning


def selective_scan_doubling(inputs: ScanInputs) -> tuple[Tensor, Tensor]:
    """As `selective_scan_reference`, of at most LONGEST steps; the work grows with their logarithm.

    Raises:
        ValueError: the sequence is longer.
    """
    if inputs.u.shape[2] > LONGEST:
        raise ValueError(f"{inputs.u.shape[2]} steps are more than the {LONGEST} of this back end")
    return with_skip_and_gate(_core, inputs)


def _core(
    step: Tensor, u: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """The recurrence, and y_t = C_t h_t."""
    repeats = u.shape[1] // B.shape[1], u.shape[1] // C.shape[1]
    decay = torch.exp(step[:, :, None] * A[:, :, None])  # (b d n l)
    drive = (step * u)[:, :, None] * B.repeat_interleave(repeats[0], dim=1)
    drive = torch.cat((drive[..., :1] + decay[..., :1] * state[..., None], drive[..., 1:]), dim=-1)
    for k in range(ROUNDS):
        shift, length = 2**k, drive.shape[-1]
        if isinstance(length, int) and shift >= length:
            break
        drive = drive + decay * F.pad(drive, (shift, 0))[..., :length]
        decay = decay * F.pad(decay, (shift, 0))[..., :length]
    y = (drive * C.repeat_interleave(repeats[1], dim=1)).sum(dim=2)
    return y, drive[..., -1]
