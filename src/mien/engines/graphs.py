"""The graphs that `mien export` writes besides rendering: encoders of picture and sound, denoiser.

Axes: b batch (1 unless said), t video frames, l audio steps (4 a frame), f features a step,
m motion, k space dimensions, n history frames, a appearance, d audio width, H W space.
"""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mien.audio.encoders import GlobalAudioEncoder, LocalAudioEncoder
from mien.audio.features import STEPS_PER_FRAME
from mien.engines.graph import B, Graph, T, named_tensors
from mien.motion.conditioning import ConditionMask
from mien.motion.speech_to_motion import SpeechToMotion
from mien.portrait.animator import Animator
from mien.types import AudioContext, Conditioning


class AppearanceGraph(nn.Module):
    """A portrait -> all that rendering takes of it beside the picture itself, named `source...` as
    the inputs of rendering are.
    """

    def __init__(self, animator: Animator) -> None:
        super().__init__()
        self.animator = animator

    def forward(self, picture: Float[Tensor, "1 3 H W"]) -> tuple[Tensor, ...]:
        """The tensors of a PreparedSource, in order."""
        return tuple(self.named(picture).values())

    def named(self, picture: Float[Tensor, "1 3 H W"]) -> dict[str, Tensor]:
        """The same by name."""
        appearance = self.animator.encode_appearance(picture)
        motion = self.animator.encode_motion(picture)
        named = named_tensors(self.animator.prepare_source(appearance, motion), "source")
        return {name: tensor for name, tensor in named.items() if tensor is not picture}


class MotionGraph(nn.Module):
    """Pictures -> their motion."""

    def __init__(self, animator: Animator) -> None:
        super().__init__()
        self.encoder = animator.motion_encoder

    def forward(self, picture: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b m"]:
        """`Animator.encode_motion`."""
        return self.encoder(picture)


class AudioGraph(nn.Module):
    """Features of an utterance -> `whole` and `local` of its AudioContext."""

    def __init__(self, speech: SpeechToMotion) -> None:
        super().__init__()
        self.whole, self.local = speech.global_encoder, speech.local_encoder
        self.width = speech.config.audio_width

    def forward(
        self, features: Float[Tensor, "1 l f"]
    ) -> tuple[Float[Tensor, "1 d"], Float[Tensor, "1 t d"]]:
        """`SpeechToMotion.encode_audio` of one utterance without padding."""
        frames = features.shape[1] // STEPS_PER_FRAME
        whole, local = self._encoded(self.whole, features), self._encoded(self.local, features)
        return (
            features.new_zeros(1, self.width) if whole is None else whole.mean(dim=1),
            features.new_zeros(1, frames, self.width) if local is None else local,
        )

    def _encoded(
        self, encoder: GlobalAudioEncoder | LocalAudioEncoder | None, features: Tensor
    ) -> Tensor | None:
        if encoder is None:
            return None
        steps = features.shape[1]
        x = encoder.stem(features, torch.full((1,), steps))
        for layer in encoder.layers:
            x = layer(x, torch.full((1,), steps // STEPS_PER_FRAME))
        return encoder.norm(x)


class DenoiserGraph(nn.Module):
    """One evaluation of the denoiser, its conditions included."""

    def __init__(self, speech: SpeechToMotion) -> None:
        super().__init__()
        self.speech = speech

    def forward(
        self,
        mixture: Float[Tensor, "1 t k"],
        level: Float[Tensor, " 1"],
        whole: Float[Tensor, "1 d"],
        local: Float[Tensor, "1 t d"],
        audio_known: Bool[Tensor, " 1"],
        history: Float[Tensor, "1 n m"],
        history_known: Bool[Tensor, " 1"],
        appearance: Float[Tensor, "1 a"],
        source_motion: Float[Tensor, "1 m"],
    ) -> tuple[Float[Tensor, "1 t k"], Float[Tensor, "1 t m"]]:
        """The clean motion (x0) in space coordinates, and decoded; without `audio_known` the
        unconditional branch of guidance.
        """
        audio = AudioContext(whole, local)
        given = Conditioning(audio, history, history_known, appearance, source_motion)
        yes = torch.ones_like(history_known)
        embedded = self.speech.embed(given, ConditionMask(audio_known, yes, yes))
        clean = self.speech.denoise(mixture, level, embedded)
        return clean, self.speech.space.decode(clean, source_motion)


def graphs(animator: Animator, speech: SpeechToMotion) -> dict[str, Callable[[], Graph]]:
    """What makes each graph, by its name."""
    return {
        "appearance": lambda: _appearance(animator),
        "motion_encoder": lambda: _motion(animator),
        "audio_encoder": lambda: _audio(speech),
        "denoiser": lambda: _denoiser(speech),
    }


def _random(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 2 - 1


def _appearance(animator: Animator) -> Graph:
    net, side = AppearanceGraph(animator), animator.config.image_size
    picture = _random(1, 3, side, side)
    return Graph("appearance", net, {"picture": picture}, (None,), tuple(net.named(picture)))


def _motion(animator: Animator) -> Graph:
    side = animator.config.image_size
    inputs = {"picture": _random(2, 3, side, side)}
    return Graph("motion_encoder", MotionGraph(animator), inputs, ({0: B},), ("motion",))


def _audio(speech: SpeechToMotion) -> Graph:
    features = _random(1, 7 * STEPS_PER_FRAME, speech.config.front_end.dims)
    axes = ({1: STEPS_PER_FRAME * T},)
    return Graph(
        "audio_encoder", AudioGraph(speech), {"features": features}, axes, ("whole", "local")
    )


def _denoiser(speech: SpeechToMotion) -> Graph:
    c = speech.config
    motion, known = sum(c.motion_blocks), torch.ones(1, dtype=torch.bool)
    inputs = {
        "mixture": _random(1, c.window, c.space_dims),
        "level": torch.full((1,), 0.5),
        "whole": _random(1, c.audio_width),
        "local": _random(1, c.window, c.audio_width),
        "audio_known": known,
        "history": _random(1, c.history, motion),
        "history_known": known.clone(),
        "appearance": _random(1, c.appearance_dim),
        "source_motion": _random(1, motion),
    }
    dynamic = "mixture", "local"
    axes = tuple({1: T} if name in dynamic else None for name in inputs)
    return Graph("denoiser", DenoiserGraph(speech), inputs, axes, ("clean", "motion"))
