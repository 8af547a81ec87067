"""Motion for a whole utterance, a window at a time, each knowing the four frames before it.

Axes: b batch, t frames, n history frames, m motion, a appearance.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from mien.diffusion.samplers import Denoise, ddim, euler, guided
from mien.diffusion.schedule import descent
from mien.motion.conditioning import Told, tell_everything, tell_no_audio
from mien.motion.speech_to_motion import SpeechToMotion
from mien.types import AudioContext, Conditioning


@dataclass(frozen=True)
class SamplingConfig:
    """How motion is drawn: denoising steps, how far to follow the sound (1: as told), sampler."""

    steps: int = 10
    guidance: float = 1.5
    sampler: Literal["ddim", "euler"] = "ddim"

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, not {self.steps}")


def rollout(
    speech: SpeechToMotion,
    audio: AudioContext,
    appearance: Float[Tensor, "b a"],
    source_motion: Float[Tensor, "b m"],
    sampling: SamplingConfig,
    generator: torch.Generator,
) -> Iterator[Float[Tensor, "b t m"]]:
    """Yield absolute motion, in all as many frames as `audio.local` has (the last window is short).

    The same generator state gives the same motion.
    """
    config = speech.config
    b, frames, _ = audio.local.shape
    history = source_motion[:, None].expand(-1, config.history, -1)
    for start in range(0, frames, config.window):
        conditioning = Conditioning(
            audio=AudioContext(audio.whole, audio.local[:, start : start + config.window]),
            history=history,
            history_known=torch.full((b,), start > 0, device=source_motion.device),
            appearance=appearance,
            source_motion=source_motion,
        )
        motion = sample_window(speech, conditioning, sampling, generator)
        history = motion[:, motion.shape[1] - config.history :]
        yield motion


@torch.no_grad()
def sample_window(
    speech: SpeechToMotion,
    conditioning: Conditioning,
    sampling: SamplingConfig,
    generator: torch.Generator,
) -> Float[Tensor, "b t m"]:
    """Draw the motion of one window."""

    def denoiser(told: Told) -> Denoise:
        embedded = speech.embed(conditioning, told)
        return lambda x, level: speech.denoise(x, level, embedded)

    b, t, _ = conditioning.audio.local.shape
    shape = (b, t, speech.config.space_dims)
    noise = torch.randn(shape, generator=generator, device=generator.device)
    noise = noise.to(conditioning.source_motion)

    denoise = denoiser(tell_everything(conditioning))
    if sampling.guidance != 1:
        denoise = guided(denoise, denoiser(tell_no_audio(conditioning)), sampling.guidance)
    sample = ddim if sampling.sampler == "ddim" else euler
    clean = sample(denoise, noise, descent(speech.config.schedule, sampling.steps, noise))
    return speech.space.decode(clean, conditioning.source_motion)
