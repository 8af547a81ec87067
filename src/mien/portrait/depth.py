"""Squeeze-and-excitation weights of depth layers (the paper's w_m: pooling, FC, sigmoid).

The paper pools depth, height and width at once, which leaves one weight per channel although its
text says "depth-wise"; pooling height and width alone keeps a weight per channel and layer. Both
are here.
Axes: b batch, c channels, z depth layers, h w space.
"""

from typing import Literal

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

DepthPooling = Literal["space", "space_and_depth"]


class DepthWeights(nn.Module):
    """F_id = 2 w_m * F_m; the factor keeps the volume at its scale while w_m is still one half."""

    def __init__(self, channels: int, depth_layers: int, pooling: DepthPooling) -> None:
        super().__init__()
        self.layers = depth_layers if pooling == "space" else 1
        width = channels * self.layers
        self.weigh = nn.Sequential(
            nn.Linear(width, max(width // 4, 8)), nn.SiLU(), nn.Linear(max(width // 4, 8), width)
        )

    def forward(self, volume: Float[Tensor, "b c z h w"]) -> Float[Tensor, "b c z h w"]:
        """Weigh the layers of a volume."""
        pooled = volume.mean(dim=(3, 4))
        if self.layers == 1:
            pooled = pooled.mean(dim=2, keepdim=True)
        weights = torch.sigmoid(self.weigh(rearrange(pooled, "b c z -> b (c z)")))
        weights = rearrange(weights, "b (c z) -> b c z 1 1", z=self.layers)
        return 2 * weights * volume
