"""What stage 2 learns from a clip: see the window's motion through noise, knowing its sound.

Axes: b batch, l audio steps, t frames, n history frames, k space dimensions.
"""

from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from mien.audio.features import shift_level
from mien.diffusion.objective import LossWeights, noised, objective, to_clean
from mien.diffusion.schedule import at_levels
from mien.motion.conditioning import ConditionDropout, all_conditions, draw_condition_mask
from mien.motion.lips import closed, has_mesh, lip_numbers
from mien.motion.speech_to_motion import SpeechToMotion
from mien.ops.precision import full_precision
from mien.presets import read_preset
from mien.types import AudioContext, Conditioning, SpeechClip

_SMALL_GAP = 0.02  # eye distances: from here on the logarithm bends


@dataclass(frozen=True)
class SpeechObjectiveConfig:
    """Weights and draws of training.

    `variance_weight`: how much a dimension's variance counts (0 whitened, 1 plain motion error).
    `own_history`: of the given histories, the share replaced by the net's own prediction;
    the rest are true frames with noise, its deviation drawn from `history_noise` (whitened units).
    `direct`: weight of the direct head's loss, where the net has one (SpeechToMotionConfig).
    `closed_lips`: by how much more frames of closed lips weigh in the prediction (1: no more);
    `lips`: weight of the gap and width of the lips that the predicted motion shows, each over its
    spread in the batch. Both need motion that holds a face's mesh (SpeechToMotionConfig.mesh).
    `level_shift`: recordings are made louder or softer by up to so many dB (log-mel only).
    """

    weights: LossWeights = field(default_factory=LossWeights)
    variance_weight: float = 0.5
    dropout: ConditionDropout = field(default_factory=ConditionDropout)
    own_history: float = 0.375
    history_noise: tuple[float, float] = (0.05, 0.1)
    direct: float = 1.0
    closed_lips: float = 3.0
    lips: float = 0.5
    level_shift: float = 10.0

    @classmethod
    def preset(cls, name: str) -> "SpeechObjectiveConfig":
        """The objective of a preset (`mien.presets`)."""
        return read_preset(cls, name, "stage2", "model.init_args.objective")

    @property
    def needs_mesh(self) -> bool:
        """Whether anything here looks at lips."""
        return self.closed_lips != 1 or self.lips != 0


def speech_objective(
    speech: SpeechToMotion,
    clip: SpeechClip,
    config: SpeechObjectiveConfig,
    generator: torch.Generator,
) -> tuple[Float[Tensor, ""], dict[str, Float[Tensor, ""]]]:
    """The loss of a batch and its parts; every draw comes from `generator`."""
    clean = speech.space.encode(clip.motion, clip.source_motion)
    audio = speech.encode_audio(_other_level(speech, clip, config, generator), clip.feature_lengths)

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
    mixture = noised(clean, noise, levels)
    answer = speech.answer(mixture, levels.level, speech.embed(conditioning, mask))
    loss, parts = objective(
        answer,
        mixture,
        clean,
        noise,
        levels,
        speech.config.parameterisation,
        config.weights,
        speech.space.importance(config.variance_weight),
        frame_weights(clip.motion, config.closed_lips),
    )
    more = {}
    if speech.direct is not None:
        more["direct"] = config.direct * direct_loss(speech.direct(conditioning.audio.local), clean)
    if config.lips:
        seen = to_clean(answer, mixture, levels, speech.config.parameterisation)
        drawn = speech.space.decode(seen, clip.source_motion)
        # As with velocity: near pure noise the clean motion cannot be read off noise.
        noisy = speech.config.parameterisation == "noise"
        weight = levels.alpha.square() if noisy else torch.ones_like(levels.alpha)
        more["lips"] = config.lips * lip_loss(drawn, clip.motion, weight)
    added = {name: part.detach() for name, part in more.items()}
    return loss + sum(more.values()), {**parts, **added}


def frame_weights(
    motion: Float[Tensor, "b t m"], closed_lips: float
) -> Float[Tensor, "b t"] | None:
    """How much each frame counts: `closed_lips` where lips are closed, else 1; None: all alike."""
    if closed_lips == 1:
        return None
    return 1 + (closed_lips - 1) * closed(motion) * has_mesh(motion)[:, None]


@full_precision
def lip_loss(
    drawn: Float[Tensor, "b t m"], real: Float[Tensor, "b t m"], weight: Float[Tensor, " b"]
) -> Float[Tensor, ""]:
    """Smooth L1 of the lips' gap and width, in the real ones' standard deviations.

    Of the gap its logarithm counts: whether lips touch is seen, a wide mouth a little wider is not.
    `weight` weighs the samples; those of clips without a face do not count.
    """
    shown, wanted = (_as_seen(lip_numbers(motion)) for motion in (drawn, real))
    spread = wanted.flatten(0, 1).std(dim=0).clamp(min=1e-4)
    wrong = F.smooth_l1_loss(shown / spread, wanted / spread, reduction="none").mean(dim=(1, 2))
    return (wrong * weight * has_mesh(real)).mean()


def _as_seen(lips: Float[Tensor, "b t 2"]) -> Float[Tensor, "b t 2"]:
    gap, width = lips.unbind(dim=-1)
    # Below 0 lips press on each other: straight on, so that the gradient does not end there.
    small = torch.where(gap > 0, torch.log1p(gap.clamp(min=0) / _SMALL_GAP), gap / _SMALL_GAP)
    return torch.stack((small, width), dim=-1)


@full_precision
def direct_loss(read: Float[Tensor, "b t k"], clean: Float[Tensor, "b t k"]) -> Float[Tensor, ""]:
    """Smooth L1 of the space coordinates that the direct head read, and of their frame differences.

    It sees neither noise nor history, so it teaches the local encoder what the sound alone says.
    """
    moved = F.smooth_l1_loss(read.diff(dim=1), clean.diff(dim=1)) if read.shape[1] > 1 else 0.0
    return F.smooth_l1_loss(read, clean) + moved


def take_window(audio: AudioContext, start: Int[Tensor, " b"], frames: int) -> AudioContext:
    """The sound of `frames` frames from `start` on; frames before the clip repeat its first."""
    place = start[:, None] + torch.arange(frames, device=start.device)
    place = place.clamp(0, audio.local.shape[1] - 1)
    index = place[..., None].expand(-1, -1, audio.local.shape[2])
    return AudioContext(whole=audio.whole, local=audio.local.gather(1, index))


def _other_level(
    speech: SpeechToMotion,
    clip: SpeechClip,
    config: SpeechObjectiveConfig,
    generator: torch.Generator,
) -> Float[Tensor, "b l f"]:
    """The same voices, recorded louder or softer; pretrained features are left as they are."""
    if speech.config.front_end.bundle is not None:
        return clip.features
    draw = uniform(clip.features.shape[:1], clip.features, generator)
    return shift_level(clip.features, (2 * draw - 1) * config.level_shift)


@torch.no_grad()
def _history(
    speech: SpeechToMotion,
    clip: SpeechClip,
    audio: AudioContext,
    config: SpeechObjectiveConfig,
    generator: torch.Generator,
) -> Float[Tensor, "b n m"]:
    """True frames with a little noise, or what the net itself would have made of them."""
    true = speech.space.encode(clip.history, clip.source_motion)
    least, most = config.history_noise
    size = least + (most - least) * uniform(true.shape[:1], true, generator)
    history = true + size[:, None, None] * gaussian(true.shape, true, generator)

    own = uniform(true.shape[:1], true, generator) < config.own_history
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
    """The history as the net sees it through noise, in the window that starts with it."""
    n, t = clip.history.shape[1], clip.motion.shape[1]
    source = clip.source_motion[own]
    motion = torch.cat([clip.history, clip.motion], dim=1)[own, :t]
    mixture = noised(
        speech.space.encode(motion, source),
        noise[own],
        at_levels(speech.config.schedule, level[own]),
    )
    heard = AudioContext(whole=audio.whole[own], local=audio.local[own])
    conditioning = Conditioning(
        audio=take_window(heard, clip.start[own] - n, t),
        history=clip.history[own],
        history_known=torch.zeros_like(clip.history_known[own]),
        appearance=clip.appearance[own],
        source_motion=source,
    )
    embedded = speech.embed(conditioning, all_conditions(conditioning))
    return speech.denoise(mixture, level[own], embedded)[:, :n]


def uniform(shape: torch.Size, like: Tensor, generator: torch.Generator) -> Float[Tensor, "*shape"]:
    """Uniform numbers drawn where the generator lives, so that a seed means the same everywhere."""
    return torch.rand(shape, generator=generator, device=generator.device).to(like)


def gaussian(
    shape: torch.Size, like: Tensor, generator: torch.Generator
) -> Float[Tensor, "*shape"]:
    """Normal numbers drawn where the generator lives."""
    return torch.randn(shape, generator=generator, device=generator.device).to(like)
