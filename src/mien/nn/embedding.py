"""Sinusoidal embeddings: of a noise level (timestep), and rotary position embeddings (RoPE).

Axes: b batch, t time, d width.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Real
from torch import Tensor, nn

_LEVEL_SPAN = 1000.0  # noise levels in [0, 1] are scaled to the range that the sinusoids resolve


def sinusoids(values: Real[Tensor, "*n"], dims: int) -> Float[Tensor, "*n d"]:
    """Cosines and sines of `values` at `dims / 2` frequencies from 1 down to 1/10000."""
    if dims % 2:
        raise ValueError(f"sinusoids need an even number of dims, not {dims}")
    spread = torch.arange(dims // 2, device=values.device, dtype=torch.float32) / (dims // 2)
    angles = values.float()[..., None] * torch.exp(-math.log(10000.0) * spread)
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


class NoiseLevelEmbedding(nn.Module):
    """Timestep embedding: a noise level in [0, 1] as a vector, by sinusoids and an MLP."""

    def __init__(self, width: int):
        super().__init__()
        self.width = width
        self.in_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)

    def forward(self, level: Float[Tensor, " b"]) -> Float[Tensor, "b d"]:
        """Embed one noise level per sample."""
        waves = sinusoids(level * _LEVEL_SPAN, self.width)
        return self.out_proj(F.silu(self.in_proj(waves.to(self.in_proj.weight.dtype))))


def apply_rotary(
    x: Float[Tensor, "b heads t d"], positions: Real[Tensor, " t"]
) -> Float[Tensor, "b heads t d"]:
    """Rotate pairs of channels by an angle proportional to position (RoPE, arXiv 2104.09864).

    The product of two rotated vectors depends on the difference of their positions only.
    """
    cos, sin = sinusoids(positions, x.shape[-1]).to(x.dtype).chunk(2, dim=-1)
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)
