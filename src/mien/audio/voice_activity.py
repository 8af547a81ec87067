"""When somebody speaks: a gate in [0, 1] for every video frame, 0 in silence.

A face must rest while nothing is said. Loudness is enough for that: voices stand far above the
quiet of their own recording, and where noise hides the pauses the gate stays open.
Axes: s audio samples, t video frames.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from mien.audio.features import SAMPLES_PER_FRAME

SILENCE_DB = -60.0  # of full scale; quieter than this is never speech
BELOW_SPEECH_DB = 35.0  # a frame this far under the utterance's loud frames is a pause
LEAD_FRAMES = 2  # mouths open before they sound
HOLD_FRAMES = 10  # 0.4 s: a breath between two words closes nothing
FADE_FRAMES = 4  # half the length of the smooth attack and release


def frame_loudness(waveform: Float[Tensor, " s"], frames: int) -> Float[Tensor, " t"]:
    """Root mean square of the samples under each video frame; silence beyond the end."""
    spare = frames * SAMPLES_PER_FRAME - waveform.shape[0]
    samples = F.pad(waveform, (0, spare)) if spare > 0 else waveform[: frames * SAMPLES_PER_FRAME]
    return samples.reshape(frames, SAMPLES_PER_FRAME).square().mean(1).sqrt()


def speech_gate(loudness: Float[Tensor, " t"]) -> Float[Tensor, " t"]:
    """1 while somebody speaks, 0 in silence, with a smooth attack before and release after.

    The gate has fully opened when the sound begins and starts to close 0.4 s after it ended.
    """
    level = 20 * loudness.clamp_min(1e-6).log10()
    threshold = max(SILENCE_DB, float(level.quantile(0.95)) - BELOW_SPEECH_DB)
    speaking = (level > threshold).to(loudness.dtype)

    before, after = LEAD_FRAMES + FADE_FRAMES, HOLD_FRAMES + FADE_FRAMES
    held = F.max_pool1d(F.pad(speaking[None, None], (after, before)), after + before + 1, stride=1)
    window = torch.hann_window(2 * FADE_FRAMES + 3, periodic=False, dtype=loudness.dtype)[1:-1]
    padded = F.pad(held, (FADE_FRAMES, FADE_FRAMES), mode="replicate")
    return F.conv1d(padded, (window / window.sum())[None, None])[0, 0].clamp(0, 1)
