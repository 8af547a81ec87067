"""Mamba blocks: a selective state space layer, and its use in both directions of time.

Axes: b batch, t time, d width, e inner width, k state. Parameter names and initialisation follow
mamba-ssm's `Mamba`, so that a state dict travels between the two.
"""

import math

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from mien.ops.causal_conv1d import causal_conv1d
from mien.ops.selective_scan import selective_scan

_DT_SMALLEST, _DT_LARGEST, _DT_FLOOR = 1e-3, 1e-1, 1e-4


class MambaBlock(nn.Module):
    """One selective state space layer (arXiv 2312.00752); output t sees inputs up to t."""

    def __init__(self, width: int, state: int = 16, taps: int = 4, expand: int = 2):
        super().__init__()
        inner = expand * width
        self.dt_rank = math.ceil(width / 16)
        self.state = state
        self.in_proj = nn.Linear(width, 2 * inner, bias=False)
        self.conv1d = nn.Conv1d(inner, inner, taps, groups=inner, padding=taps - 1)
        self.x_proj = nn.Linear(inner, self.dt_rank + 2 * state, bias=False)
        self.dt_proj = nn.Linear(self.dt_rank, inner)
        self.A_log = nn.Parameter(torch.log(torch.arange(1.0, state + 1).repeat(inner, 1)))
        self.D = nn.Parameter(torch.ones(inner))
        self.out_proj = nn.Linear(inner, width, bias=False)
        self._initialise_dt()
        for parameter in (self.A_log, self.D, self.dt_proj.bias):
            # Read by the optimizer's grouping, here as in mamba-ssm.
            parameter._no_weight_decay = True  # pyright: ignore[reportAttributeAccessIssue]

    def forward(self, sequence: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        """Project in, filter, scan, gate, project out."""
        x, z = rearrange(self.in_proj(sequence), "b t (two e) -> two b e t", two=2)
        taps = rearrange(self.conv1d.weight, "e 1 taps -> e taps")
        x = causal_conv1d(x, taps, self._conv_bias())

        told = self.x_proj(rearrange(x, "b e t -> b t e"))
        dt, B, C = told.split((self.dt_rank, self.state, self.state), dim=-1)
        delta = rearrange(dt @ self.dt_proj.weight.T, "b t e -> b e t")

        y = selective_scan(
            x,
            delta,
            -torch.exp(self.A_log.float()),
            rearrange(B, "b t k -> b k t"),
            rearrange(C, "b t k -> b k t"),
            D=self.D.float(),
            z=z,
            delta_bias=self.dt_proj.bias.float(),
            delta_softplus=True,
        )
        assert isinstance(y, Tensor)
        return self.out_proj(rearrange(y, "b e t -> b t e"))

    def _conv_bias(self) -> Tensor:
        assert self.conv1d.bias is not None
        return self.conv1d.bias

    @torch.no_grad()
    def _initialise_dt(self) -> None:
        """Start softplus(bias) log-uniform between the smallest and the largest time step."""
        bound = self.dt_rank**-0.5
        nn.init.uniform_(self.dt_proj.weight, -bound, bound)
        span = math.log(_DT_LARGEST) - math.log(_DT_SMALLEST)
        dt = torch.exp(torch.rand_like(self.dt_proj.bias) * span + math.log(_DT_SMALLEST))
        dt = dt.clamp(min=_DT_FLOOR)
        self.dt_proj.bias.copy_(dt + torch.log(-torch.expm1(-dt)))  # the inverse of softplus


class BidirectionalMamba(nn.Module):
    """Two Mamba blocks, one on time reversed; their outputs are added."""

    def __init__(self, width: int, state: int = 16):
        super().__init__()
        self.onward = MambaBlock(width, state)
        self.backward_in_time = MambaBlock(width, state)

    def forward(
        self, sequence: Float[Tensor, "b t d"], lengths: Int[Tensor, " b"]
    ) -> Float[Tensor, "b t d"]:
        """Every real output sees every real input, and nothing that stands beyond `lengths`."""
        mirrored = self.backward_in_time(reverse_within(sequence, lengths))
        return self.onward(sequence) + reverse_within(mirrored, lengths)


def reverse_within(
    sequence: Float[Tensor, "b t d"], lengths: Int[Tensor, " b"]
) -> Float[Tensor, "b t d"]:
    """Reverse each sequence within its own length; the padding stays on the right."""
    place = torch.arange(sequence.shape[1], device=sequence.device)
    last = lengths.to(sequence.device)[:, None] - 1
    order = torch.where(place <= last, last - place, place)
    return sequence.gather(1, order[..., None].expand_as(sequence))
