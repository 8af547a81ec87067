"""Motion for a whole utterance, window by window, each conditioned on the frames before it.

Windows overlap by a few frames, over which they are cross-faded (not in the paper).

Axes: b batch, t frames, n history frames, m motion, a appearance.
"""

import math
from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from mien.diffusion.samplers import Denoise, ddim, euler, guided, multistep
from mien.diffusion.schedule import sampling_levels
from mien.mesh.motion import POSE_DIM
from mien.motion.conditioning import (
    ConditionMask,
    all_conditions,
    join_embedded,
    without_audio,
)
from mien.motion.sampling import SamplingConfig
from mien.motion.speech_to_motion import SpeechToMotion, SpeechToMotionConfig
from mien.types import AudioContext, Conditioning


def window_starts(frames: int, config: SpeechToMotionConfig, crossfade: int) -> list[int]:
    """First frames of the windows of an utterance. The last window is as long as the others, unless
    that would leave no history before it.
    """
    window = config.window
    if frames <= window:
        return [0]
    return [*range(0, frames - window, window - crossfade), max(frames - window, config.history)]


def crossfade_frames(
    frames: int, config: SpeechToMotionConfig, sampling: SamplingConfig
) -> list[int]:
    """The frames of the cross-fades between windows, each followed by the first frame after it."""
    blend = sampling.crossfade_within(config.window, config.history)
    ends = [start + config.window for start in window_starts(frames, config, blend)[:-1]]
    return [frame for end in ends for frame in range(end - blend, end + 1)]


def rollout(
    speech: SpeechToMotion,
    audio: AudioContext,
    appearance: Float[Tensor, "b a"],
    source_motion: Float[Tensor, "b m"],
    sampling: SamplingConfig,
    generator: torch.Generator,
) -> Iterator[Float[Tensor, "b t m"]]:
    """Yield absolute motion as soon as it is final, in all as many frames as `audio.local` has.

    The same generator state gives the same motion.
    """
    config = speech.config
    b, frames, _ = audio.local.shape
    blend = sampling.crossfade_within(config.window, config.history)
    starts = window_starts(frames, config, blend)
    made, first, given = source_motion[:, None, :][:, :0], 0, 0  # frames from `first` on
    for start, after in zip(starts, [*starts[1:], None], strict=True):
        before = made[:, max(0, start - config.history - first) : start - first]
        conditioning = Conditioning(
            audio=AudioContext(audio.whole, audio.local[:, start : start + config.window]),
            history=before if start else source_motion[:, None].expand(-1, config.history, -1),
            history_known=torch.full((b,), start > 0, device=source_motion.device),
            appearance=appearance,
            source_motion=source_motion,
        )
        fresh = sample_window(speech, conditioning, sampling, generator)
        made = torch.cat(
            (made[:, : start - first], crossfade(made[:, start - first :], fresh, blend)), dim=1
        )
        final = first + made.shape[1] - (0 if after is None else blend)
        yield made[:, given - first : final - first]
        given = final
        drop = 0 if after is None else max(0, after - config.history - first)
        made, first = made[:, drop:], first + drop


def crossfade(
    known: Float[Tensor, "b n m"], fresh: Float[Tensor, "b t m"], length: int
) -> Float[Tensor, "b t m"]:
    """Join a new window to the earlier one that made its first n frames as well: these are kept,
    except that the last `length` of them are cross-faded (smoothstep) into the new window.
    """
    n = known.shape[1]
    length = min(length, n)
    share = torch.linspace(0, 1, length + 2)[1:-1, None].to(fresh)
    share = share.square() * (3 - 2 * share)
    passed = torch.lerp(known[:, n - length :], fresh[:, n - length : n], share)
    return torch.cat((known[:, : n - length], passed, fresh[:, n:]), dim=1)


@torch.no_grad()
def sample_window(
    speech: SpeechToMotion,
    conditioning: Conditioning,
    sampling: SamplingConfig,
    generator: torch.Generator,
) -> Float[Tensor, "b t m"]:
    """Sample the motion of one window."""

    def denoiser(*masks: ConditionMask) -> Denoise:
        embedded = join_embedded([speech.embed(conditioning, mask) for mask in masks])
        return lambda x, level: speech.denoise(x, level, embedded)

    b, t, _ = conditioning.audio.local.shape
    shape = (b, t, speech.config.space_dims)
    noise = torch.randn(shape, generator=generator, device=generator.device)
    noise = noise.to(conditioning.source_motion)

    conditional = all_conditions(conditioning)
    if sampling.guidance == 1:
        denoise = denoiser(conditional)
    else:
        denoise = guided(denoiser(conditional, without_audio(conditioning)), sampling.guidance)
    sample = {"multistep": multistep, "ddim": ddim, "euler": euler}[sampling.sampler]
    clean = sample(denoise, noise, sampling_levels(speech.config.schedule, sampling.steps, noise))
    motion = speech.space.decode(clean, conditioning.source_motion)
    if not (speech.config.mesh and sampling.pose_smoothing):
        return motion
    rest, pose = motion.split((motion.shape[2] - POSE_DIM, POSE_DIM), dim=2)
    return torch.cat((rest, gaussian_smooth(pose, sampling.pose_smoothing)), dim=2)


def gaussian_smooth(values: Float[Tensor, "b t k"], deviation: float) -> Float[Tensor, "b t k"]:
    """Gaussian smoothing over frames, `deviation` in frames; the edge frames are replicated."""
    reach = math.ceil(3 * deviation)
    steps = torch.arange(-reach, reach + 1, device=values.device, dtype=values.dtype)
    weights = torch.softmax(-(steps**2) / (2 * deviation**2), dim=0)
    padded = F.pad(values.transpose(1, 2), (reach, reach), mode="replicate")
    return torch.einsum("b k t s, s -> b t k", padded.unfold(2, len(steps), 1), weights)
