"""Convolution blocks for pictures and volumes.

Group normalisation throughout: batch statistics would mix identities, and a batch of two must
equal two batches of one. Axes: b batch, c channels, z depth layers, h w space.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


def group_norm(channels: int) -> nn.GroupNorm:
    """Group normalisation with at most 8 groups that divide the channels."""
    return nn.GroupNorm(math.gcd(8, channels), channels)


class ResidualBlock2d(nn.Module):
    """x + conv(act(norm(conv(act(norm(x)))))), same size."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            group_norm(channels),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            group_norm(channels),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
        )

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Apply to a feature map."""
        return x + self.body(x)


class ResidualBlock3d(nn.Module):
    """The same over a volume with depth layers (one block of the paper's ResNet3D)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            group_norm(channels),
            nn.SiLU(),
            nn.Conv3d(channels, channels, 3, padding=1),
            group_norm(channels),
            nn.SiLU(),
            nn.Conv3d(channels, channels, 3, padding=1),
        )

    def forward(self, x: Float[Tensor, "b c z h w"]) -> Float[Tensor, "b c z h w"]:
        """Apply to a feature volume."""
        return x + self.body(x)


class DownBlock(nn.Module):
    """Halve the size, change the channels."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels_out, 3, stride=2, padding=1)
        self.norm = group_norm(channels_out)

    def forward(self, x: Float[Tensor, "b c1 h1 w1"]) -> Float[Tensor, "b c2 h2 w2"]:
        """Apply to a feature map."""
        return F.silu(self.norm(self.conv(x)))


class ConvBlock(nn.Module):
    """Convolution, normalisation, activation; the size stays."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.norm = group_norm(channels_out)

    def forward(self, x: Float[Tensor, "b c1 h w"]) -> Float[Tensor, "b c2 h w"]:
        """Apply to a feature map."""
        return F.silu(self.norm(self.conv(x)))


class Hourglass(nn.Module):
    """A U-Net over maps or, with `volume=True`, over volumes halved in space alone.

    Args:
        channels_in: channels of the input.
        widths: channels at each level, finest first; each further level halves the space.
        volume: convolve over depth as well.
    """

    def __init__(self, channels_in: int, widths: tuple[int, ...], volume: bool) -> None:
        super().__init__()
        conv = nn.Conv3d if volume else nn.Conv2d

        def block(a: int, b: int) -> nn.Sequential:
            return nn.Sequential(conv(a, b, 3, padding=1), group_norm(b), nn.SiLU())

        self.entry = block(channels_in, widths[0])
        pairs = list(zip(widths[:-1], widths[1:], strict=True))
        self.down = nn.ModuleList(block(a, b) for a, b in pairs)
        self.up = nn.ModuleList(block(b + a, a) for a, b in reversed(pairs))
        self.pool = nn.AvgPool3d((1, 2, 2)) if volume else nn.AvgPool2d(2)

    def forward(self, x: Float[Tensor, "b c1 *space"]) -> Float[Tensor, "b c2 *space"]:
        """Features at the input's size."""
        levels = [self.entry(x)]
        for down in self.down:
            levels.append(down(self.pool(levels[-1])))
        x = levels.pop()
        for up in self.up:
            finer = levels.pop()
            x = F.interpolate(x, size=finer.shape[2:], mode="nearest")
            x = up(torch.cat((x, finer), dim=1))
        return x
