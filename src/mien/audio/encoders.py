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
from mien.media.spooled import Spooled
from mien.nn.mamba import BidirectionalMamba, MambaBlock

PIECE = 1500  # frames of a long sound that are encoded at once: a minute


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
        return self.pool(x, frames)

    def encode_frames(self, x: Float[Tensor, "1 t d"]) -> Float[Tensor, "1 d"]:
        """The same of one utterance's frames as `StemStream` gives them, in pieces."""
        for layer in self.layers:
            x = in_pieces(layer, x)
        device = self.norm.weight.device
        sums = [self.norm(part.to(device)).sum(1) for part in x.split(PIECE, 1)]
        return torch.stack(sums).sum(0) / x.shape[1]

    def pool(self, x: Float[Tensor, "b t d"], frames: Int[Tensor, " b"]) -> Float[Tensor, "b d"]:
        """The mean over the unpadded frames."""
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

    def encode_frames(self, x: Float[Tensor, "1 t d"]) -> Float[Tensor, "1 t d"]:
        """The same of one utterance's frames as `StemStream` gives them, in pieces."""
        for layer in self.layers:
            x = in_pieces(layer, x)
        device = self.norm.weight.device
        for part in x.split(PIECE, 1):
            part.copy_(self.norm(part.to(device)))
        return x.to(device)


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


class StemStream:
    """A stem applied to one utterance whose steps come in parts of any length."""

    def __init__(self, stem: FrameStem) -> None:
        self._stem = stem
        self._held: Tensor | None = None  # steps of frames that are not complete
        self._frames = Spooled()

    def push(self, part: Float[Tensor, "1 l f"]) -> None:
        """Take the next steps."""
        steps = rearrange(F.gelu(self._stem.in_proj(part)), "b l d -> b d l")
        before = self._stem.margins[0]
        self._fold(
            F.pad(steps, (before, 0)) if self._held is None else torch.cat((self._held, steps), 2)
        )

    def finish(self) -> Float[Tensor, "1 t d"]:
        """All frames, as the stem gives them of all steps at once, mapped from a file."""
        assert self._held is not None, "no steps were pushed"
        self._fold(F.pad(self._held, (0, self._stem.margins[1])))
        return torch.from_numpy(self._frames.array())[None]

    def _fold(self, steps: Float[Tensor, "1 d l"]) -> None:
        frames = steps.shape[2] // STEPS_PER_FRAME - 1
        if frames > 0:
            self._frames.append(self._stem.to_frames(steps)[0].T.float().cpu().numpy())
        self._held = steps[:, :, max(0, frames) * STEPS_PER_FRAME :]


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


def in_pieces(layer: nn.Module, x: Float[Tensor, "1 t d"]) -> Float[Tensor, "1 t d"]:
    """A layer applied to one utterance on the CPU, with memory for a piece of it; the result is
    mapped from a file.
    """
    assert isinstance(layer, BidirectionalLayer | CausalLayer)
    mamba, device, made, state = layer.mamba, layer.norm.weight.device, Spooled(), None
    onward = mamba.forward_in_time if isinstance(mamba, BidirectionalMamba) else mamba
    for part in x.split(PIECE, 1):
        y, state = onward.stream(layer.norm(part.to(device)), state)
        made.append((part + y.float().cpu())[0].numpy())
    out, state = torch.from_numpy(made.array())[None], None
    if isinstance(mamba, BidirectionalMamba):
        parts = zip(x.split(PIECE, 1), out.split(PIECE, 1), strict=True)
        for part, there in reversed(list(parts)):
            mirrored = layer.norm(part.to(device)).flip(1)
            y, state = mamba.backward_in_time.stream(mirrored, state)
            there.add_(y.flip(1).float().cpu())
    return out


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
