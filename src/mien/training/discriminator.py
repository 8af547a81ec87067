"""Patch discriminator and its losses (the paper's patch-based discriminator, L_adv).

Two scales of strided convolutions with spectral normalisation and the hinge loss, after
face-vid2vid.
Axes: b batch, c channels, h w space.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from mien.presets import read_preset


@dataclass(frozen=True)
class DiscriminatorConfig:
    """Hyperparameters of the discriminator."""

    channels: tuple[int, ...] = (64, 128, 256, 512)
    scales: int = 2

    @classmethod
    def preset(cls, name: str) -> "DiscriminatorConfig":
        """The discriminator of a preset (`mien.presets`)."""
        return read_preset(cls, name, "stage1", "model.init_args.discriminator")


class PatchDiscriminator(nn.Module):
    """Picture -> for every scale, the maps of all layers; the last map of each holds the scores."""

    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__()
        self.scales = nn.ModuleList(_one_scale(config.channels) for _ in range(config.scales))

    def forward(self, picture: Float[Tensor, "b 3 h w"]) -> list[list[Tensor]]:
        """Score a picture at every scale, each half the size of the one before."""
        outputs = []
        for i, layers in enumerate(self.scales):
            x = F.avg_pool2d(picture, 2**i) if i else picture
            maps = []
            assert isinstance(layers, nn.ModuleList)
            for layer in layers:
                x = layer(x)
                maps.append(x)
            outputs.append(maps)
        return outputs


def discriminator_loss(real: list[list[Tensor]], drawn: list[list[Tensor]]) -> Float[Tensor, ""]:
    """Hinge loss of the discriminator."""
    parts = [
        F.relu(1 - r[-1]).mean() + F.relu(1 + d[-1]).mean()
        for r, d in zip(real, drawn, strict=True)
    ]
    return torch.stack(parts).mean()


def adversarial_loss(drawn: list[list[Tensor]]) -> Float[Tensor, ""]:
    """Hinge loss of the animator as the generator: its frames shall score as real."""
    return torch.stack([-maps[-1].mean() for maps in drawn]).mean()


def feature_matching_loss(real: list[list[Tensor]], drawn: list[list[Tensor]]) -> Float[Tensor, ""]:
    """Mean absolute difference of the discriminator's intermediate feature maps."""
    parts = [
        (d - r.detach()).abs().mean()
        for maps_r, maps_d in zip(real, drawn, strict=True)
        for r, d in zip(maps_r[:-1], maps_d[:-1], strict=True)
    ]
    return torch.stack(parts).mean()


def _one_scale(channels: tuple[int, ...]) -> nn.ModuleList:
    widths = (3, *channels)
    layers = [
        nn.Sequential(spectral_norm(nn.Conv2d(a, b, 4, stride=2, padding=1)), nn.LeakyReLU(0.2))
        for a, b in zip(widths[:-1], widths[1:], strict=True)
    ]
    return nn.ModuleList([*layers, spectral_norm(nn.Conv2d(channels[-1], 1, 3, padding=1))])
