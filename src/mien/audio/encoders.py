"""The paper's audio encoders: Mamba-g encodes the whole utterance, Mamba-l the sound around each
frame.

Axes: b batch, l audio steps (four per frame), t video frames, f features per step, d width.
Utterances are padded on the right; the padding does not affect the output.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mien.audio.features import STEPS_PER_FRAME, exact_ratio
from mien.nn.mamba import BidirectionalMamba, MambaBlock


@dataclass(frozen=True)
class GlobalEncoderConfig:
    """Mamba-g: `layers` bidirectional blocks with a state of `state` values per channel."""

    layers: int = 2
    state: int = 16


@dataclass(frozen=True)
class LocalEncoderConfig:
    """Mamba-l; with `causal` a frame's output depends on no later sound, for streaming."""

    layers: int = 2
    state: int = 16
    causal: bool = False


class GlobalAudioEncoder(nn.Module):
    """Mamba-g: one vector for the utterance, its style over all segments (paper section III-C)."""

    def __init__(self, features: int, width: int, config: GlobalEncoderConfig):
        super().__init__()
        self.stem = FrameStem(features, width, causal=False)
        self.layers = nn.ModuleList(
            BidirectionalLayer(width, config.state) for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(width)

    def forward(
        self, features: Float[Tensor, "b l f"], lengths: Int[Tensor, " b"]
    ) -> Float[Tensor, "b d"]:
        """Mean of the layers' output over the unpadded frames; `lengths` counts steps."""
        frames = frame_lengths(lengths)
        x = self.stem(features, lengths)
        for layer in self.layers:
            x = layer(x, frames)
        real = padding_mask(frames, x.shape[1])[..., None]
        return (self.norm(x) * real).sum(1) / frames[:, None]


class LocalAudioEncoder(nn.Module):
    """Mamba-l: one vector per frame, the change of the voice inside a segment."""

    def __init__(self, features: int, width: int, config: LocalEncoderConfig):
        super().__init__()
        self.stem = FrameStem(features, width, causal=config.causal)
        layer = CausalLayer if config.causal else BidirectionalLayer
        self.layers = nn.ModuleList(layer(width, config.state) for _ in range(config.layers))
        self.norm = nn.LayerNorm(width)

    def forward(
        self, features: Float[Tensor, "b l f"], lengths: Int[Tensor, " b"]
    ) -> Float[Tensor, "b t d"]:
        """Encode every frame; `lengths` counts steps, and the output of padded frames is zero."""
        frames = frame_lengths(lengths)
        x = self.stem(features, lengths)
        for layer in self.layers:
            x = layer(x, frames)
        return self.norm(x) * padding_mask(frames, x.shape[1])[..., None]


class FrameStem(nn.Module):
    """Merge the four steps of each frame, and as many around them, into one vector per frame."""

    def __init__(self, features: int, width: int, causal: bool):
        super().__init__()
        self.in_proj = nn.Linear(features, width)
        self.to_frames = nn.Conv1d(width, width, 2 * STEPS_PER_FRAME, stride=STEPS_PER_FRAME)
        before = STEPS_PER_FRAME if causal else STEPS_PER_FRAME // 2
        self.margins = (before, STEPS_PER_FRAME - before)

    def forward(
        self, features: Float[Tensor, "b l f"], lengths: Int[Tensor, " b"]
    ) -> Float[Tensor, "b t d"]:
        """Frame t covers steps 4t-2 .. 4t+5 (causal: 4t-4 .. 4t+3), zero-padded at the ends."""
        exact_ratio(features.shape[1], STEPS_PER_FRAME)
        real = padding_mask(lengths, features.shape[1])[..., None]
        steps = F.gelu(self.in_proj(features)) * real
        return self.to_frames(F.pad(rearrange(steps, "b l d -> b d l"), self.margins)).transpose(
            1, 2
        )


class BidirectionalLayer(nn.Module):
    """A bidirectional Mamba block as a pre-norm residual layer."""

    def __init__(self, width: int, state: int):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.mamba = BidirectionalMamba(width, state)

    def forward(
        self, x: Float[Tensor, "b t d"], lengths: Int[Tensor, " b"]
    ) -> Float[Tensor, "b t d"]:
        """Apply in both directions of time, within `lengths` frames."""
        return x + self.mamba(self.norm(x), lengths)


class CausalLayer(nn.Module):
    """A causal Mamba block as a pre-norm residual layer."""

    def __init__(self, width: int, state: int):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.mamba = MambaBlock(width, state)

    def forward(
        self, x: Float[Tensor, "b t d"], lengths: Int[Tensor, " b"]
    ) -> Float[Tensor, "b t d"]:
        """Apply forwards in time; padding on the right is in the future, so `lengths` is unused."""
        return x + self.mamba(self.norm(x))


def frame_lengths(lengths: Int[Tensor, " b"]) -> Int[Tensor, " b"]:
    """Steps to frames.

    Raises:
        ValueError: an utterance is not a whole number of frames, or empty.
    """
    if bool(((lengths % STEPS_PER_FRAME != 0) | (lengths <= 0)).any()):
        raise ValueError(
            f"audio steps must be positive multiples of {STEPS_PER_FRAME}, not {lengths.tolist()}"
        )
    return lengths // STEPS_PER_FRAME


def padding_mask(lengths: Int[Tensor, " b"], size: int) -> Bool[Tensor, "b n"]:
    """True at the unpadded positions of each sequence."""
    return torch.arange(size, device=lengths.device) < lengths[:, None]
