"""Mamba blocks: a selective state space layer, and its use in both directions of time.

Axes: b batch, t time, d width, e inner width, k state. Parameter names and initialisation follow
mamba-ssm's `Mamba`, so that a state dict travels between the two.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from mien.ops.causal_conv1d import causal_conv1d, causal_conv1d_step, next_state
from mien.ops.selective_scan import selective_scan, selective_scan_step

_DT_SMALLEST, _DT_LARGEST, _DT_FLOOR = 1e-3, 1e-1, 1e-4


@dataclass(frozen=True)
class MambaState:
    """Recurrent state of a block between two parts of a sequence; its size is constant.

    Attributes:
        conv: the last inputs of the convolution.
        scan: the state of the scan, float32 (float64 in a float64 block).
    """

    conv: Float[Tensor, "b e p"]
    scan: Float[Tensor, "b e k"]


class MambaBlock(nn.Module):
    """One selective state space layer (arXiv 2312.00752); output t sees inputs up to t.

    Parameters have mamba-ssm's names, shapes and initial values, so a state dict fits both.

    Args:
        width: input and output channels.
        state: state size per channel.
        kernel: kernel size of the causal convolution before the scan.
        expand: ratio of the scan's channels to `width`.
    """

    def __init__(self, width: int, state: int = 16, kernel: int = 4, expand: int = 2):
        super().__init__()
        inner = expand * width
        self.dt_rank = math.ceil(width / 16)
        self.state = state
        self.in_proj = nn.Linear(width, 2 * inner, bias=False)
        self.conv1d = nn.Conv1d(inner, inner, kernel, groups=inner, padding=kernel - 1)
        self.x_proj = nn.Linear(inner, self.dt_rank + 2 * state, bias=False)
        self.dt_proj = nn.Linear(self.dt_rank, inner)
        self.A_log = nn.Parameter(torch.log(torch.arange(1.0, state + 1).repeat(inner, 1)))
        self.D = nn.Parameter(torch.ones(inner))
        self.out_proj = nn.Linear(inner, width, bias=False)
        self._initialise_dt()
        for parameter in (self.A_log, self.D, self.dt_proj.bias):
            # Read by the optimizer's grouping; mamba-ssm marks A_log and D so.
            parameter._no_weight_decay = True  # pyright: ignore[reportAttributeAccessIssue]

    def forward(self, sequence: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        """Project in, convolve, scan, gate, project out."""
        x, z = self._project_in(sequence)
        x = causal_conv1d(x, *self._filter())
        y = selective_scan(**self._selection(x), z=z)
        assert isinstance(y, Tensor)
        return self.out_proj(rearrange(y, "b e t -> b t e"))

    def stream(
        self, part: Float[Tensor, "b t d"], state: MambaState | None
    ) -> tuple[Float[Tensor, "b t d"], MambaState]:
        """As `forward` on a part of a sequence, continued from `state` (None: its beginning)."""
        if state is None:
            state = self.empty_state(part)
        x, z = self._project_in(part)
        conv = next_state(state.conv, x)
        x = causal_conv1d(x, *self._filter(), initial_state=state.conv)
        selected = self._selection(x)
        y, scan = selective_scan(**selected, z=z, initial_state=state.scan, return_last_state=True)
        return self.out_proj(rearrange(y, "b e t -> b t e")), MambaState(conv, scan)

    def step(
        self, now: Float[Tensor, "b d"], state: MambaState | None
    ) -> tuple[Float[Tensor, "b d"], MambaState]:
        """One time step, continued from `state` (None: the beginning); needs no scan kernel."""
        x, z = self.in_proj(now).chunk(2, dim=-1)
        if state is None:
            state = self.empty_state(x)
        x, conv = causal_conv1d_step(state.conv, x, *self._filter())
        selected = self._selection(x[..., None])
        for name in ("u", "delta", "B", "C"):
            selected[name] = selected[name][..., 0]
        y, scan = selective_scan_step(state.scan, **selected, z=z)
        return self.out_proj(y), MambaState(conv, scan)

    def empty_state(self, like: Float[Tensor, "b ..."]) -> MambaState:
        """The state before a sequence begins, for the batch size of `like`."""
        inner, batch = self.conv1d.in_channels, len(like)
        return MambaState(
            like.new_zeros(batch, inner, self.conv1d.kernel_size[0] - 1),
            _exact(like.new_zeros(batch, inner, self.state)),
        )

    def _project_in(
        self, sequence: Float[Tensor, "b t d"]
    ) -> tuple[Float[Tensor, "b e t"], Float[Tensor, "b e t"]]:
        """The scan's input and its gate."""
        x, z = rearrange(self.in_proj(sequence), "b t (two e) -> two b e t", two=2)
        return x, z

    def _selection(self, x: Float[Tensor, "b e t"]) -> dict[str, Any]:
        """The scan's arguments except the gate; time step, B and C depend on the input."""
        projected = self.x_proj(rearrange(x, "b e t -> b t e"))
        dt, B, C = projected.split((self.dt_rank, self.state, self.state), dim=-1)
        return dict(
            u=x,
            delta=rearrange(dt @ self.dt_proj.weight.T, "b t e -> b e t"),
            A=-torch.exp(_exact(self.A_log)),
            B=rearrange(B, "b t k -> b k t"),
            C=rearrange(C, "b t k -> b k t"),
            D=_exact(self.D),
            delta_bias=_exact(self.dt_proj.bias),
            delta_softplus=True,
        )

    def _filter(self) -> tuple[Float[Tensor, "e kernel"], Float[Tensor, " e"]]:
        assert self.conv1d.bias is not None
        return rearrange(self.conv1d.weight, "e 1 kernel -> e kernel"), self.conv1d.bias

    @torch.no_grad()
    def _initialise_dt(self) -> None:
        """Start softplus(bias) log-uniform between the smallest and the largest time step."""
        bound = self.dt_rank**-0.5
        nn.init.uniform_(self.dt_proj.weight, -bound, bound)
        span = math.log(_DT_LARGEST) - math.log(_DT_SMALLEST)
        dt = torch.exp(torch.rand_like(self.dt_proj.bias) * span + math.log(_DT_SMALLEST))
        dt = dt.clamp(min=_DT_FLOOR)
        self.dt_proj.bias.copy_(dt + torch.log(-torch.expm1(-dt)))  # the inverse of softplus


def _exact(given: Tensor) -> Tensor:
    """Promoted to float32 at least, for values that half precision would round too coarsely."""
    return given.to(torch.promote_types(given.dtype, torch.float32))


class BidirectionalMamba(nn.Module):
    """Two Mamba blocks, one on time reversed; their outputs are added."""

    def __init__(self, width: int, state: int = 16):
        super().__init__()
        self.forward_in_time = MambaBlock(width, state)
        self.backward_in_time = MambaBlock(width, state)

    def forward(
        self, sequence: Float[Tensor, "b t d"], lengths: Int[Tensor, " b"]
    ) -> Float[Tensor, "b t d"]:
        """Each unpadded output depends on all inputs within `lengths`, and on no padding."""
        mirrored = self.backward_in_time(reverse_within(sequence, lengths))
        return self.forward_in_time(sequence) + reverse_within(mirrored, lengths)


def reverse_within(
    sequence: Float[Tensor, "b t d"], lengths: Int[Tensor, " b"]
) -> Float[Tensor, "b t d"]:
    """Reverse each sequence within its own length; the padding stays on the right."""
    place = torch.arange(sequence.shape[1], device=sequence.device)
    last = lengths.to(sequence.device)[:, None] - 1
    order = torch.where(place <= last, last - place, place)
    return sequence.gather(1, order[..., None].expand_as(sequence))
