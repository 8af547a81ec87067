"""Training objective of stage 2: denoise a window's motion, conditioned on its audio.

Axes: b batch, l audio steps, t frames, n history frames, k space dimensions.
"""

from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from mien.audio.features import apply_gain
from mien.diffusion.objective import LossWeights, add_noise, objective, to_clean
from mien.diffusion.schedule import at_levels
from mien.motion.conditioning import ConditionDropout, all_conditions, draw_condition_mask
from mien.motion.lips import closed, lip_measures, mesh_mask
from mien.motion.speech_to_motion import SpeechToMotion
from mien.ops.precision import full_precision
from mien.presets import read_preset
from mien.types import AudioContext, Conditioning, SpeechClip

_SMALL_GAP = 0.02  # eye distances: scale of the lip gap in log(1 + gap / scale)


@dataclass(frozen=True)
class SpeechObjectiveConfig:
    """Loss weights and augmentations of training.

    `variance_weight`: exponent of a dimension's variance in its loss weight (0: whitened, 1: plain
    motion error). `predicted_history`: share of known histories replaced by the net's own
    prediction; the rest are true frames with noise whose standard deviation is drawn from
    `history_noise` (whitened units).
    `direct`: weight of the direct head's loss, where the net has one (SpeechToMotionConfig).
    `closed_lips`: weight of frames with closed lips in the prediction term (1: as all others);
    `lips`: weight of the loss on lip gap and mouth width of the predicted motion, each divided by
    its standard deviation in the batch. Both need mesh motion (SpeechToMotionConfig.mesh).
    `gain_augmentation`: uniform up to this many dB louder or softer (log-mel only).
    """

    weights: LossWeights = field(default_factory=LossWeights)
    variance_weight: float = 0.5
    dropout: ConditionDropout = field(default_factory=ConditionDropout)
    predicted_history: float = 0.375
    history_noise: tuple[float, float] = (0.05, 0.1)
    direct: float = 1.0
    closed_lips: float = 3.0
    lips: float = 0.5
    gain_augmentation: float = 10.0

    @classmethod
    def preset(cls, name: str) -> "SpeechObjectiveConfig":
        """The objective of a preset (`mien.presets`)."""
        return read_preset(cls, name, "stage2", "model.init_args.objective")

    @property
    def needs_mesh(self) -> bool:
        """Whether a term uses the lips, which needs mesh motion."""
        return self.closed_lips != 1 or self.lips != 0


def speech_objective(
    speech: SpeechToMotion,
    clip: SpeechClip,
    config: SpeechObjectiveConfig,
    generator: torch.Generator,
) -> tuple[Float[Tensor, ""], dict[str, Float[Tensor, ""]]]:
    """The loss of a batch and its terms; all random numbers come from `generator`."""
    clean = speech.space.encode(clip.motion, clip.source_motion)
    audio = speech.encode_audio(
        _with_other_gain(speech, clip, config, generator), clip.feature_lengths
    )

    conditioning = Conditioning(
        audio=take_window(audio, clip.start, clean.shape[1]),
        history=_history(speech, clip, audio, config, generator),
        history_known=clip.history_known,
        appearance=clip.appearance,
        source_motion=clip.source_motion,
    )
    mask = draw_condition_mask(clip.history_known, config.dropout, generator)

    levels = at_levels(speech.config.schedule, uniform(clean.shape[:1], clean, generator))
    noise = gaussian(clean.shape, clean, generator)
    mixture = add_noise(clean, noise, levels)
    prediction = speech.predict(mixture, levels.level, speech.embed(conditioning, mask))
    loss, parts = objective(
        prediction,
        mixture,
        clean,
        noise,
        levels,
        speech.config.parameterisation,
        config.weights,
        speech.space.importance(config.variance_weight),
        frame_weights(clip.motion, config.closed_lips),
    )
    extra = {}
    if speech.direct is not None:
        extra["direct"] = config.direct * direct_loss(
            speech.direct(conditioning.audio.local), clean
        )
    if config.lips:
        predicted = to_clean(prediction, mixture, levels, speech.config.parameterisation)
        drawn = speech.space.decode(predicted, clip.source_motion)
        # As for velocity: near pure noise x0 is ill-determined by a predicted noise.
        noisy = speech.config.parameterisation == "noise"
        weight = levels.alpha.square() if noisy else torch.ones_like(levels.alpha)
        extra["lips"] = config.lips * lip_loss(drawn, clip.motion, weight)
    added = {name: part.detach() for name, part in extra.items()}
    return loss + sum(extra.values()), {**parts, **added}


def frame_weights(
    motion: Float[Tensor, "b t m"], closed_lips: float
) -> Float[Tensor, "b t"] | None:
    """Loss weight of each frame: `closed_lips` where lips are closed, else 1; None: all equal."""
    if closed_lips == 1:
        return None
    return 1 + (closed_lips - 1) * closed(motion) * mesh_mask(motion)[:, None]


@full_precision
def lip_loss(
    drawn: Float[Tensor, "b t m"], real: Float[Tensor, "b t m"], weight: Float[Tensor, " b"]
) -> Float[Tensor, ""]:
    """Smooth L1 of lip gap and mouth width, each divided by the real one's standard deviation.

    The gap is compared on a log scale: whether lips touch is visible, a small change of an open
    mouth is not. `weight` is per sample; clips without a face do not count.
    """
    predicted, target = (_log_gap(lip_measures(motion)) for motion in (drawn, real))
    deviation = target.flatten(0, 1).std(dim=0).clamp(min=1e-4)
    error = F.smooth_l1_loss(predicted / deviation, target / deviation, reduction="none")
    return (error.mean(dim=(1, 2)) * weight * mesh_mask(real)).mean()


def _log_gap(lips: Float[Tensor, "b t 2"]) -> Float[Tensor, "b t 2"]:
    """The lip gap on a log scale, and the width unchanged."""
    gap, width = lips.unbind(dim=-1)
    # A gap below 0 is lips pressed together: linear there, so that the gradient does not vanish.
    scaled = torch.where(gap > 0, torch.log1p(gap.clamp(min=0) / _SMALL_GAP), gap / _SMALL_GAP)
    return torch.stack((scaled, width), dim=-1)


@full_precision
def direct_loss(read: Float[Tensor, "b t k"], clean: Float[Tensor, "b t k"]) -> Float[Tensor, ""]:
    """Smooth L1 of the direct head's space coordinates `read`, and of their frame differences.

    The head gets neither noisy motion nor history, so the local encoder must learn what the audio
    alone determines.
    """
    moved = F.smooth_l1_loss(read.diff(dim=1), clean.diff(dim=1)) if read.shape[1] > 1 else 0.0
    return F.smooth_l1_loss(read, clean) + moved


def take_window(audio: AudioContext, start: Int[Tensor, " b"], frames: int) -> AudioContext:
    """Audio context of `frames` frames from `start` on; beyond the clip its edge frame repeats."""
    place = start[:, None] + torch.arange(frames, device=start.device)
    place = place.clamp(0, audio.local.shape[1] - 1)
    index = place[..., None].expand(-1, -1, audio.local.shape[2])
    return AudioContext(whole=audio.whole, local=audio.local.gather(1, index))


def _with_other_gain(
    speech: SpeechToMotion,
    clip: SpeechClip,
    config: SpeechObjectiveConfig,
    generator: torch.Generator,
) -> Float[Tensor, "b l f"]:
    """Features with gain augmentation; those of a pretrained front end are left unchanged."""
    if speech.config.front_end.bundle is not None:
        return clip.features
    draw = uniform(clip.features.shape[:1], clip.features, generator)
    return apply_gain(clip.features, (2 * draw - 1) * config.gain_augmentation)


@torch.no_grad()
def _history(
    speech: SpeechToMotion,
    clip: SpeechClip,
    audio: AudioContext,
    config: SpeechObjectiveConfig,
    generator: torch.Generator,
) -> Float[Tensor, "b n m"]:
    """History frames: the true ones with noise, or the net's own prediction of them."""
    true = speech.space.encode(clip.history, clip.source_motion)
    least, most = config.history_noise
    deviation = least + (most - least) * uniform(true.shape[:1], true, generator)
    history = true + deviation[:, None, None] * gaussian(true.shape, true, generator)

    own = uniform(true.shape[:1], true, generator) < config.predicted_history
    own = own & clip.history_known
    noise = gaussian(clip.motion.shape[:2] + true.shape[2:], true, generator)
    level = uniform(true.shape[:1], true, generator)
    if bool(own.any()) and true.shape[1]:
        history[own] = _own_prediction(speech, clip, audio, own, level, noise)
    return speech.space.decode(history, clip.source_motion)


def _own_prediction(
    speech: SpeechToMotion,
    clip: SpeechClip,
    audio: AudioContext,
    own: Bool[Tensor, " b"],
    level: Float[Tensor, " b"],
    noise: Float[Tensor, "b t k"],
) -> Float[Tensor, "own n k"]:
    """The net's prediction of the history frames, denoised in the window that starts with them."""
    n, t = clip.history.shape[1], clip.motion.shape[1]
    source = clip.source_motion[own]
    motion = torch.cat([clip.history, clip.motion], dim=1)[own, :t]
    mixture = add_noise(
        speech.space.encode(motion, source),
        noise[own],
        at_levels(speech.config.schedule, level[own]),
    )
    own_audio = AudioContext(whole=audio.whole[own], local=audio.local[own])
    conditioning = Conditioning(
        audio=take_window(own_audio, clip.start[own] - n, t),
        history=clip.history[own],
        history_known=torch.zeros_like(clip.history_known[own]),
        appearance=clip.appearance[own],
        source_motion=source,
    )
    embedded = speech.embed(conditioning, all_conditions(conditioning))
    return speech.denoise(mixture, level[own], embedded)[:, :n]


def uniform(shape: torch.Size, like: Tensor, generator: torch.Generator) -> Float[Tensor, "*shape"]:
    """Uniform numbers drawn on the generator's device, so a seed gives the same on every device."""
    return torch.rand(shape, generator=generator, device=generator.device).to(like)


def gaussian(
    shape: torch.Size, like: Tensor, generator: torch.Generator
) -> Float[Tensor, "*shape"]:
    """Standard normal numbers drawn on the generator's device."""
    return torch.randn(shape, generator=generator, device=generator.device).to(like)
