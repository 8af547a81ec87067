"""Stage 2, the paper's latent motion appearance diffusion: motion diffusion conditioned on audio.

Axes: b batch, l audio steps, f features per step, t frames, m motion, k space dimensions.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mien.audio.encoders import (
    GlobalAudioEncoder,
    GlobalEncoderConfig,
    LocalAudioEncoder,
    LocalEncoderConfig,
    StemStream,
)
from mien.audio.features import STEPS_PER_FRAME, exact_ratio
from mien.audio.pretrained import WHISPER, FrontEndConfig
from mien.audio.whisper import WIDTH as WHISPER_DIMS
from mien.config import require_multiple
from mien.diffusion.objective import Parameterisation, to_clean
from mien.diffusion.schedule import Schedule, at_levels
from mien.mesh.motion import MESH_DIM, POSE_DIM
from mien.motion.conditioning import ConditionEmbedding, ConditionMask, Embedded
from mien.motion.denoiser import MotionDenoiser
from mien.motion.sampling import SamplingConfig
from mien.motion.space import MotionSpace
from mien.presets import read_preset
from mien.types import AudioContext, Conditioning

LARGEST = 5.0  # deviations of a whitened component that a clean motion may show


@dataclass(frozen=True)
class SpeechToMotionConfig:
    """Hyperparameters of the net; the defaults are those of stage2.yaml.

    Ablations: an encoder null, a condition false, `history` 0.
    `appearance_dim` must be the animator's. `window` and `history` are in video frames.
    `direct_head` predicts motion from the local encoder alone, an auxiliary loss in training that
    supervises this encoder; no sampler uses it.
    """

    appearance_dim: int = 256
    motion_dim: int = 768  # dimensions of the animator's motion
    mesh: bool = True  # mien's own addition: mesh motion is generated as well
    space_dims: int = 64
    window: int = 64
    history: int = 4

    front_end: FrontEndConfig = FrontEndConfig(WHISPER, dims=WHISPER_DIMS)
    audio_width: int = 128
    global_encoder: GlobalEncoderConfig | None = field(default_factory=GlobalEncoderConfig)
    local_encoder: LocalEncoderConfig | None = field(default_factory=LocalEncoderConfig)
    direct_head: bool = True  # mien's own addition: an auxiliary motion head on Mamba-l
    appearance: bool = True
    source_motion: bool = True

    width: int = 256
    layers: int = 6
    heads: int = 8
    expand: int = 2
    condition_width: int = 128

    parameterisation: Parameterisation = "x0"
    schedule: Schedule = "cosine"

    def __post_init__(self) -> None:
        require_multiple("width", self.width, "heads", self.heads)
        if not 0 <= self.history < self.window:
            raise ValueError(f"history {self.history} must be shorter than window {self.window}")
        if self.direct_head and self.local_encoder is None:
            raise ValueError("direct_head reads the local encoder: give one, or set it to false")

    @classmethod
    def preset(cls, name: str) -> "SpeechToMotionConfig":
        """The net of a preset (`mien.presets`): tiny, small, base, base512 or paper."""
        return read_preset(cls, name, "stage2", "model.init_args.speech")

    @property
    def motion_blocks(self) -> tuple[int, ...]:
        """Sizes of the parts of a motion vector: the animator's motion, mesh offsets, head pose."""
        mesh = (MESH_DIM - POSE_DIM, POSE_DIM) if self.mesh else ()
        return (self.motion_dim, *mesh)


class SpeechToMotion(nn.Module):
    """Audio-conditioned motion diffusion: audio encoders, motion space, denoiser. `sampling` is how
    motion is sampled where nothing else is said.
    """

    def __init__(
        self,
        config: SpeechToMotionConfig,
        sampling: SamplingConfig = SamplingConfig(),  # noqa: B008 (frozen)
    ):
        super().__init__()
        self.config, self.sampling = config, sampling
        features, width = config.front_end.dims, config.audio_width
        self.global_encoder = (
            None
            if config.global_encoder is None
            else GlobalAudioEncoder(features, width, config.global_encoder)
        )
        self.local_encoder = (
            None
            if config.local_encoder is None
            else LocalAudioEncoder(features, width, config.local_encoder)
        )
        self.direct = nn.Linear(width, config.space_dims) if config.direct_head else None
        self.space = MotionSpace(config.motion_blocks, config.space_dims)
        self.conditions = ConditionEmbedding(
            audio=width,
            space=config.space_dims,
            appearance=config.appearance_dim if config.appearance else None,
            source_motion=config.source_motion,
            condition=config.condition_width,
            width=config.width,
        )
        self.denoiser = MotionDenoiser(
            space=config.space_dims,
            width=config.width,
            layers=config.layers,
            heads=config.heads,
            expand=config.expand,
            condition=config.condition_width,
        )

    def encode_audio(
        self, features: Float[Tensor, "b l f"], lengths: Int[Tensor, " b"] | None = None
    ) -> AudioContext:
        """Encode utterances, l = 4 t steps for t frames; `lengths` are unpadded steps (None: all).

        Raises:
            ValueError: the steps are not a whole number of frames.
        """
        b, steps, _ = features.shape
        frames = exact_ratio(steps, STEPS_PER_FRAME)
        if lengths is None:
            lengths = torch.full((b,), steps, device=features.device)
        width = self.config.audio_width
        return AudioContext(
            whole=features.new_zeros(b, width)
            if self.global_encoder is None
            else self.global_encoder(features, lengths),
            local=features.new_zeros(b, frames, width)
            if self.local_encoder is None
            else self.local_encoder(features, lengths),
        )

    @torch.no_grad()
    def encode_pieces(self, pieces: Iterator[Float[Tensor, "1 _ f"]]) -> AudioContext:
        """As `encode_audio` of one utterance whose features come in parts, which are not kept: of
        a minute of sound only the frames stay in memory, not the steps.
        """
        encoders = [e for e in (self.global_encoder, self.local_encoder) if e is not None]
        streams = [StemStream(encoder.stem) for encoder in encoders]
        steps, part = 0, torch.empty(0)
        for part in pieces:
            steps += part.shape[1]
            for stream in streams:
                stream.push(part)
        whole, local = part.new_zeros(1, self.config.audio_width), None
        for encoder, stream in zip(encoders, streams, strict=True):
            if isinstance(encoder, GlobalAudioEncoder):
                whole = encoder.encode_frames(stream.finish())
            else:
                local = encoder.encode_frames(stream.finish())
        frames = exact_ratio(steps, STEPS_PER_FRAME)
        empty = part.new_zeros(1, frames, self.config.audio_width)
        return AudioContext(whole, empty if local is None else local)

    def embed(self, conditioning: Conditioning, mask: ConditionMask) -> Embedded:
        """Embed the conditions, once for all steps of a sampler."""
        return self.conditions(conditioning, mask, self.space)

    def predict(
        self, mixture: Float[Tensor, "b t k"], level: Float[Tensor, " b"], embedded: Embedded
    ) -> Float[Tensor, "b t k"]:
        """The net's raw prediction, in the form of `config.parameterisation`, for training."""
        return self.denoiser(mixture, level, embedded)

    def denoise(
        self, mixture: Float[Tensor, "b t k"], level: Float[Tensor, " b"], embedded: Embedded
    ) -> Float[Tensor, "b t k"]:
        """The clean motion (x0) in space coordinates, predicted from `mixture`."""
        levels = at_levels(self.config.schedule, level)
        prediction = self.predict(mixture, level, embedded)
        clean = to_clean(prediction, mixture, levels, self.config.parameterisation)
        if self.config.parameterisation == "noise":  # near pure noise its errors grow without bound
            clean = clean.clamp(-LARGEST, LARGEST)
        return clean
