"""What is denoised: pictures folded into channels, or the latents of an autoencoder.

Axes: n pictures, c channels of a sample, h w space.
"""

import functools
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from mien.errors import UserError
from mien.loki.backbone import from_pretrained
from mien.loki.config import LATENT_FACTOR, LokiConfig

_DEVIATION = 0.5  # of pixels in [-1, 1]; samples are divided by it, as noise deviates by 1


@dataclass(frozen=True)
class PixelSpace:
    """Squares of `patch` x `patch` pixels as channels."""

    patch: int
    limit: float = 1 / _DEVIATION  # of a sample, which no picture exceeds

    def encode(self, pictures: Float[Tensor, "n 3 _ _"]) -> Float[Tensor, "n c _ _"]:
        """Pictures in [-1, 1] to samples."""
        return F.pixel_unshuffle(pictures, self.patch) / _DEVIATION

    def decode(self, samples: Float[Tensor, "n c _ _"]) -> Float[Tensor, "n 3 _ _"]:
        """Samples to pictures in [-1, 1]."""
        return F.pixel_shuffle(samples * _DEVIATION, self.patch).clamp(-1, 1)


@dataclass(frozen=True)
class LatentSpace:
    """Latents of an AutoencoderKL, read at its first use; it is never trained nor saved with Loki.

    Args:
        name: its own folder, one with a folder `vae`, or a hub name.
        channels: of its latents.
    """

    name: str
    channels: int
    limit: None = None

    @torch.no_grad()
    def encode(self, pictures: Float[Tensor, "n 3 _ _"]) -> Float[Tensor, "n c _ _"]:
        """Pictures in [-1, 1] to samples: the mode of the posterior, scaled.

        Raises:
            UserError: the autoencoder cannot be read, or is of other sizes.
        """
        net = _autoencoder(self.name, self.channels, pictures.device)
        latents = net.encode(pictures).latent_dist.mode()
        return (latents - _shift(net)) * net.config["scaling_factor"]

    @torch.no_grad()
    def decode(self, samples: Float[Tensor, "n c _ _"]) -> Float[Tensor, "n 3 _ _"]:
        """Samples to pictures in [-1, 1].

        Raises:
            UserError: the autoencoder cannot be read, or is of other sizes.
        """
        net = _autoencoder(self.name, self.channels, samples.device)
        latents = samples / net.config["scaling_factor"] + _shift(net)
        return net.decode(latents).sample.clamp(-1, 1)


Space = PixelSpace | LatentSpace


def space_of(config: LokiConfig) -> Space:
    """The space of a config."""
    if config.autoencoder is not None:
        return LatentSpace(config.autoencoder, config.latent_channels)
    return PixelSpace(config.patch)


@functools.lru_cache(maxsize=2)
def _autoencoder(name: str, channels: int, device: torch.device) -> Any:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    net: Any = from_pretrained(AutoencoderKL, name, "vae")
    net.requires_grad_(False).eval().to(device)
    factor = 2 ** (len(net.config["block_out_channels"]) - 1)
    if (factor, net.config["latent_channels"]) != (LATENT_FACTOR, channels):
        more = ", or set latent_channels" if factor == LATENT_FACTOR else ""
        raise UserError(
            f"the autoencoder {name} makes latents of {net.config['latent_channels']} channels, "
            f"{factor} pixels to one; this net takes {channels} channels, {LATENT_FACTOR} pixels "
            f"to one: give another autoencoder{more}"
        )
    return net


def _shift(net: Any) -> float:
    """What latents are shifted by before they are scaled; newer autoencoders have it."""
    return net.config.get("shift_factor") or 0.0
