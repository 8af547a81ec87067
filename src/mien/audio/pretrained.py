"""Audio front ends: log-mel, Whisper's first layers, or a pretrained encoder of torchaudio.

Axes: b batch, s samples, j the encoder's own steps (50 a second), l audio steps, f features per
step. The only module that imports torchaudio, and only when a config names a bundle.
"""

import functools
import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from mien.audio.features import (
    HOP,
    MEL_BINS,
    SAMPLES_PER_FRAME,
    STEPS_PER_FRAME,
    frame_count,
    log_mel,
)
from mien.audio.whisper import WIDTH, WhisperEncoder, load_whisper
from mien.errors import UserError
from mien.ops.precision import full_precision

WHISPER = "whisper2"  # the bundle's name in configs
_ENCODER_HOP, _ENCODER_FIELD = 320, 400  # samples: wav2vec 2.0, HuBERT and WavLM alike

FrontEnd = Callable[[Float[Tensor, "b s"]], Float[Tensor, "b l f"]]


@dataclass(frozen=True)
class FrontEndConfig:
    """The input features of the audio encoders, `dims` per step.

    `bundle` is null for log-mel (80 dims, no weights), whisper2 for the first two layers of Whisper
    tiny.en, which ship (384 dims), else a name in torchaudio.pipelines, like WAV2VEC2_BASE (768
    dims); of the latter `layer` is the transformer layer whose output is taken, counted from 1.
    """

    bundle: str | None = None
    layer: int = 9
    dims: int = MEL_BINS

    def __post_init__(self) -> None:
        if self.bundle is None and self.dims != MEL_BINS:
            raise ValueError(f"log-mel has {MEL_BINS} features per step, but dims is {self.dims}")
        if self.bundle == WHISPER and self.dims != WIDTH:
            raise ValueError(f"{WHISPER} has {WIDTH} features per step, but dims is {self.dims}")

    @property
    def layered(self) -> bool:
        """Whether `layer` is used, as for the encoders of torchaudio."""
        return self.bundle not in (None, WHISPER)


def load_front_end(config: FrontEndConfig) -> FrontEnd:
    """The function from waveforms to features that `config` names.

    Raises:
        UserError: torchaudio or the bundle is missing, or its width is not `config.dims`.
    """
    if config.bundle is None:
        return log_mel
    if config.bundle == WHISPER:
        return _whisper()
    try:
        pipelines = importlib.import_module("torchaudio").pipelines
    except (ImportError, OSError) as error:  # OSError: a torchaudio built for another torch
        raise UserError(
            f"the audio front end {config.bundle} needs torchaudio, which cannot be imported "
            f"({error}); install mien[pretrained] or set the bundle to null"
        ) from error
    bundle = getattr(pipelines, config.bundle, None)
    if bundle is None:
        raise UserError(f"torchaudio.pipelines has no speech encoder named {config.bundle}")
    front_end = PretrainedSpeech(bundle.get_model(), config.layer)
    probe = front_end(torch.zeros(1, SAMPLES_PER_FRAME)).shape[-1]
    if probe != config.dims:
        raise UserError(
            f"{config.bundle} gives {probe} features per step, but dims is {config.dims}"
        )
    return front_end


@functools.cache
def _whisper() -> "WhisperSpeech":
    with torch.inference_mode(False):  # whoever asks first: training may come later
        return WhisperSpeech(load_whisper()).eval()


def feature_pieces(
    config: FrontEndConfig, waveform: Float[Tensor, "b s"]
) -> Iterator[Float[Tensor, "b _ f"]]:
    """The features that `config` names, in order, some seconds at a time where the front end can.

    Raises:
        UserError: as `load_front_end`.
    """
    if config.bundle == WHISPER:
        yield from _whisper().pieces(waveform)
    else:
        yield load_front_end(config)(waveform)


class WhisperSpeech(nn.Module):
    """Whisper's first layers, resampled to exactly 100 steps a second."""

    def __init__(self, encoder: WhisperEncoder):
        super().__init__()
        self.encoder = encoder

    def forward(self, waveform: Float[Tensor, "b s"]) -> Float[Tensor, "b l f"]:
        """Features with l = 4 * frame_count(s), like `log_mel`."""
        return torch.cat(list(self.pieces(waveform)), dim=1)

    def pieces(self, waveform: Float[Tensor, "b s"]) -> Iterator[Float[Tensor, "b _ f"]]:
        """The features in order, some seconds at a time: memory does not grow with s."""
        last: Tensor | None = None  # a feature lies between two steps
        for steps in self.encoder.pieces(waveform):
            joined = steps if last is None else torch.cat((last, steps), dim=1)
            moved = resample_steps(joined, 2 * joined.shape[1])
            yield moved[:, :-1] if last is None else moved[:, 1:-1]
            last = steps[:, -1:]
        assert last is not None
        yield last


class PretrainedSpeech(nn.Module):
    """A frozen torchaudio encoder (any `Wav2Vec2Model`), resampled to 100 steps a second."""

    def __init__(self, model: Any, layer: int):
        super().__init__()
        self.model = model.eval().requires_grad_(False)
        self.layer = layer

    @torch.no_grad()
    @full_precision
    def forward(self, waveform: Float[Tensor, "b s"]) -> Float[Tensor, "b l f"]:
        """Features with l = 4 * frame_count(s), like `log_mel`."""
        frames = frame_count(waveform.shape[1])
        # The first and last window reach into the padding, so that even one frame has its steps.
        margin = (_ENCODER_FIELD - _ENCODER_HOP) // 2
        filling = frames * SAMPLES_PER_FRAME - waveform.shape[1]
        padded = F.pad(waveform, (margin, margin + filling))
        layers, _ = self.model.extract_features(padded, num_layers=self.layer)
        return resample_steps(layers[-1], frames * STEPS_PER_FRAME)


def resample_steps(features: Float[Tensor, "b j f"], steps: int) -> Float[Tensor, "b l f"]:
    """Linear interpolation from hops of 320 samples to hops of 160, both centred on their hops."""
    if features.shape[1] * _ENCODER_HOP != steps * HOP:
        raise ValueError(f"{features.shape[1]} encoder steps cannot become {steps} steps")
    moved = F.interpolate(features.transpose(1, 2), size=steps, mode="linear", align_corners=False)
    return moved.transpose(1, 2)
