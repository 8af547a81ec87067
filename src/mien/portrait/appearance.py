"""Source picture -> feature volume and appearance vector (the paper's image encoder E and F_A).

Axes: b batch, c channels, z depth layers, h w space, a appearance dimensions.
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from mien.nn.conv import ConvBlock, DownBlock, ResidualBlock2d, ResidualBlock3d
from mien.portrait.depth import DepthPooling, DepthWeights


class AppearanceEncoder(nn.Module):
    """Picture -> F_id, a volume at a quarter of the picture's size, and the encoder's earlier maps.

    F_0 is expanded along a new depth axis by a 1x1 convolution, weighted by depth, and refined in
    3-D.
    """

    def __init__(
        self,
        channels: tuple[int, int, int],
        volume_channels: int,
        depth_layers: int,
        volume_blocks: int,
        depth_pooling: DepthPooling,
    ) -> None:
        super().__init__()
        full, half, quarter = channels
        self.depth_layers = depth_layers
        self.stem = ConvBlock(3, full)
        self.to_half = DownBlock(full, half)
        self.to_quarter = nn.Sequential(DownBlock(half, quarter), ResidualBlock2d(quarter))
        self.expand = nn.Conv2d(quarter, volume_channels * depth_layers, 1)
        self.depth_weights = DepthWeights(volume_channels, depth_layers, depth_pooling)
        self.refine = nn.Sequential(
            *(ResidualBlock3d(volume_channels) for _ in range(volume_blocks))
        )

    def forward(
        self, picture: Float[Tensor, "b 3 H W"]
    ) -> tuple[
        Float[Tensor, "b c z h w"], tuple[Float[Tensor, "b _ _ _"], Float[Tensor, "b _ H W"]]
    ]:
        """The volume, and the half-size and full-size maps that warped skips use."""
        full = self.stem(picture)
        half = self.to_half(full)
        flat = self.expand(self.to_quarter(half))
        volume = rearrange(flat, "b (c z) h w -> b c z h w", z=self.depth_layers)
        return self.refine(self.depth_weights(volume)), (half, full)


class AppearanceVector(nn.Module):
    """Picture -> F_A, an embedding of the identity (moles, wrinkles, colours)."""

    def __init__(self, channels: tuple[int, ...], dim: int) -> None:
        super().__init__()
        entry = nn.Sequential(
            nn.Conv2d(3, channels[0], 4, stride=4), nn.GroupNorm(1, channels[0]), nn.SiLU()
        )
        steps = (
            nn.Sequential(DownBlock(a, b), ResidualBlock2d(b))
            for a, b in zip(channels[:-1], channels[1:], strict=True)
        )
        self.body = nn.Sequential(entry, *steps)
        self.head = nn.Linear(channels[-1], dim)

    def forward(self, picture: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b a"]:
        """Embed the identity."""
        return self.head(self.body(picture).mean(dim=(2, 3)))


def fit_to(picture: Float[Tensor, "b 3 h1 w1"], size: int) -> Float[Tensor, "b 3 h2 w2"]:
    """The picture resized to `size`: area-averaged when smaller, bilinear when larger."""
    if picture.shape[-1] == size:
        return picture
    if picture.shape[-1] > size:
        return F.adaptive_avg_pool2d(picture, size)
    return torch.clamp(
        F.interpolate(picture, size=(size, size), mode="bilinear", align_corners=False), -1, 1
    )
