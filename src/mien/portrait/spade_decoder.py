"""SPADE blocks that draw a frame from warped features, after LivePortrait's decoder.

Axes: b batch, c g channels, h w space.
"""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm


class SpadeBlock(nn.Module):
    """Residual block whose normalisation is modulated by the warped features (SPADE)."""

    def __init__(self, channels_in: int, channels_out: int, guide: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(
            nn.InstanceNorm2d(c) for c in (channels_in, min(channels_in, channels_out))
        )
        hidden = min(128, guide)
        self.shared = nn.ModuleList(nn.Conv2d(guide, hidden, 3, padding=1) for _ in range(2))
        middle = min(channels_in, channels_out)
        self.modulate = nn.ModuleList(
            nn.Conv2d(hidden, 2 * c, 3, padding=1) for c in (channels_in, middle)
        )
        self.convs = nn.ModuleList(
            spectral_norm(nn.Conv2d(a, b, 3, padding=1))
            for a, b in ((channels_in, middle), (middle, channels_out))
        )
        self.shortcut = (
            nn.Identity()
            if channels_in == channels_out
            else nn.Conv2d(channels_in, channels_out, 1)
        )

    def forward(
        self, x: Float[Tensor, "b c1 h w"], guide: Float[Tensor, "b g h w"]
    ) -> Float[Tensor, "b c2 h w"]:
        """Apply, modulated by the guide."""
        residual = x
        parts = zip(self.norms, self.shared, self.modulate, self.convs, strict=True)
        for norm, shared, modulate, conv in parts:
            scale, shift = modulate(F.relu(shared(guide))).chunk(2, dim=1)
            residual = conv(F.leaky_relu(norm(residual) * (1 + scale) + shift, 0.2))
        return self.shortcut(x) + residual


class SpadeDecoder(nn.Module):
    """SPADE blocks at a quarter, half and full size, after LivePortrait's decoder; no skips."""

    def __init__(self, channels_in: int, channels: tuple[int, int, int], blocks: int) -> None:
        super().__init__()
        quarter, half, full = channels
        guide = quarter // 2
        self.entry = nn.Conv2d(channels_in, guide, 3, padding=1)
        self.widen = nn.Conv2d(guide, quarter, 3, padding=1)
        self.middle = nn.ModuleList(SpadeBlock(quarter, quarter, guide) for _ in range(blocks))
        self.up = nn.ModuleList((SpadeBlock(quarter, half, guide), SpadeBlock(half, full, guide)))
        self.channels_out = full

    def forward(self, features: Float[Tensor, "b c1 h1 w1"]) -> Float[Tensor, "b c2 h2 w2"]:
        """Decode to four times the size."""
        guide = self.entry(features)
        x = self.widen(guide)
        for block in self.middle:
            x = block(x, guide)
        for block in self.up:
            x = F.interpolate(x, scale_factor=2, mode="nearest")
            x = block(x, F.interpolate(guide, size=x.shape[2:], mode="nearest"))
        return F.leaky_relu(x, 0.2)
