"""The condition: maps of the posed face, encoded to features of the size of the first feature map.

The map has 45 channels: sinusoids of the positions (three coordinates, seven octaves, sine and
cosine) and the expression offsets, both zero off the mesh. The last convolution is initialised with
zeros, so that before the first step the condition changes nothing.
Axes: b batch, t frames, h w space of the picture, d channels of the first feature map, k values.
"""

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from mien.loki.config import LokiConfig
from mien.nn.conv import group_norm

MAP_CHANNELS = 7  # of an unencoded map: x y z of the position, x y z of the offset, covered


class ConditionEncoder(nn.Module):
    """Condition map -> features, a stride-2 residual block for every halving."""

    def __init__(self, config: LokiConfig) -> None:
        super().__init__()
        self.positions, self.offsets = config.positions is not None, config.offsets
        widths = config.encoder_channels
        self.octaves = config.octaves
        self.stem = nn.Conv2d(config.map_channels, widths[0], 3, padding=1)
        pairs = zip(widths[:-1], widths[1:], strict=True)
        self.blocks = nn.ModuleList(ResidualBlock(a, b, stride=2) for a, b in pairs)
        self.refine = ResidualBlock(widths[-1], widths[-1], stride=1)
        self.norm = group_norm(widths[-1])
        self.out = zeroed(nn.Conv2d(widths[-1], config.channels[0], 3, padding=1))

    def forward(self, maps: Float[Tensor, "b t 7 h w"]) -> Float[Tensor, "b t d _ _"]:
        """Features of every frame's map."""
        x = encode_maps(rearrange(maps, "b t k h w -> (b t) k h w"), self.octaves)
        kept = [part for part, used in zip(x, (self.positions, self.offsets), strict=True) if used]
        x = self.stem(torch.cat(kept, dim=1))
        for block in (*self.blocks, self.refine):
            x = block(x)
        x = self.out(self.norm(x, silu=True))
        return rearrange(x, "(b t) d h w -> b t d h w", b=len(maps))


class CoefficientEncoder(nn.Module):
    """The ablation without a map: coefficients by an MLP, the same at every place."""

    def __init__(self, config: LokiConfig) -> None:
        super().__init__()
        width = config.channels[0]
        self.layers = nn.Sequential(
            nn.Linear(config.coefficient_dims, 4 * width),
            nn.SiLU(),
            nn.Linear(4 * width, 4 * width),
            nn.SiLU(),
            zeroed(nn.Linear(4 * width, width)),
        )

    def forward(self, coefficients: Float[Tensor, "b t k"]) -> Float[Tensor, "b t d 1 1"]:
        """Features of every frame's coefficients."""
        return self.layers(coefficients)[..., None, None]


class ResidualBlock(nn.Module):
    """GroupNorm, SiLU, convolution, twice; the first convolution has the stride."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            group_norm(channels_in),
            nn.SiLU(),
            nn.Conv2d(channels_in, channels_out, 3, stride, 1),
            group_norm(channels_out),
            nn.SiLU(),
            nn.Conv2d(channels_out, channels_out, 3, padding=1),
        )
        self.skip = (
            nn.Identity()
            if (channels_in, stride) == (channels_out, 1)
            else nn.Conv2d(channels_in, channels_out, stride, stride)
        )

    def forward(self, x: Float[Tensor, "n c1 _ _"]) -> Float[Tensor, "n c2 _ _"]:
        """The features, smaller by the stride."""
        return self.skip(x) + self.body(x)


def encode_maps(
    maps: Float[Tensor, "n 7 h w"], octaves: int
) -> tuple[Float[Tensor, "n p h w"], Float[Tensor, "n 3 h w"]]:
    """Sinusoids of the positions, of frequencies 1, 2, 4 ..., and the offsets, zero off the mesh.

    What the positions are, those of the posed mesh in the crop (NDC, as in the authors' repository)
    or those of the neutral face, is the config's `positions`.
    """
    positions, offsets, covered = maps.split((3, 3, 1), dim=1)
    frequencies = 2.0 ** torch.arange(octaves, device=maps.device, dtype=maps.dtype)
    angles = positions[:, :, None] * frequencies[:, None, None]
    waves = torch.cat((angles.sin(), angles.cos()), dim=2)
    return rearrange(waves, "n c f h w -> n (c f) h w") * covered, offsets * covered


def zeroed(layer: nn.Module) -> nn.Module:
    """The layer with all weights zero."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer
