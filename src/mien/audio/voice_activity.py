"""Voice activity detection: a gate in [0, 1] for every video frame, 0 without speech.

A face must rest while nothing is said, also over music, noise or hum. Silero VAD (MIT, weights in
its wheel) distinguishes speech from these; loudness does not.
Axes: s audio samples, t video frames.
"""

import functools
import threading
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from mien.audio.features import SAMPLE_RATE, SAMPLES_PER_FRAME
from mien.ops.precision import full_precision

BELOW_SPEECH_DB = 35.0  # a frame this far under a recording's loud frames is a pause
LEAD_FRAMES = 2  # the mouth opens before the sound starts
HOLD_FRAMES = 10  # 0.4 s: the gate stays open during a breath between two words
FADE_FRAMES = 4  # half the length of the smooth attack and release

# Hysteresis: speech begins above the first and ends below the second.
ONSET_THRESHOLD, OFFSET_THRESHOLD = 0.5, 0.35
_CHUNK = 512  # samples per step of the detector
# Samples from which on it pays that torch compiles the detector, which takes a tenth of a second.
_WORTH_COMPILING = 30 * SAMPLE_RATE
_PEAK = 0.3  # quieter recordings are amplified to it: the detector was trained on usual levels

_busy = threading.Lock()  # the detector is stateful


def frame_loudness(waveform: Float[Tensor, " s"], frames: int) -> Float[Tensor, " t"]:
    """Root mean square of the samples under each video frame; silence beyond the end."""
    spare = frames * SAMPLES_PER_FRAME - waveform.shape[0]
    samples = F.pad(waveform, (0, spare)) if spare > 0 else waveform[: frames * SAMPLES_PER_FRAME]
    return samples.reshape(frames, SAMPLES_PER_FRAME).square().mean(1).sqrt()


@torch.no_grad()
@full_precision
def speech_probability(waveform: Float[Tensor, " s"], frames: int) -> Float[Tensor, " t"]:
    """Probability of speech in each video frame; 0 beyond the end of the sound."""
    peak = float(max(-waveform.min(), waveform.max())) if len(waveform) else 0.0
    if peak == 0:
        return torch.zeros(frames)
    compiled = len(waveform) > _WORTH_COMPILING
    with _busy, torch.jit.optimized_execution(compiled):  # pyright: ignore[reportPrivateImportUsage]
        detector = _detector()
        detector.reset_states()
        found = []
        for start in range(0, len(waveform), _CHUNK):
            part = waveform[start : start + _CHUNK] * max(1.0, _PEAK / peak)
            found.append(detector(F.pad(part, (0, _CHUNK - len(part)))[None], SAMPLE_RATE)[0])
    chunks = torch.cat(found)
    # The maximum of the two chunks that a frame may overlap.
    starts = torch.arange(frames) * SAMPLES_PER_FRAME
    first, last = starts // _CHUNK, (starts + SAMPLES_PER_FRAME - 1) // _CHUNK
    known = F.pad(chunks, (0, max(0, int(last[-1]) + 1 - len(chunks))))
    return torch.maximum(known[first], known[last])


@functools.cache
def _detector() -> Any:
    threads = torch.get_num_threads()
    try:
        from silero_vad import load_silero_vad

        return load_silero_vad()
    finally:
        torch.set_num_threads(threads)  # importing it sets one thread for the whole process


@full_precision
def speech_gate(probability: Float[Tensor, " t"]) -> Float[Tensor, " t"]:
    """1 during speech, else 0, with a smooth attack before and release after.

    The gate has fully opened when speech begins and starts to close 0.4 s after it ended.
    """
    speaking = torch.zeros_like(probability)
    on = False
    for t, value in enumerate(probability.tolist()):
        on = value > (OFFSET_THRESHOLD if on else ONSET_THRESHOLD)
        speaking[t] = float(on)

    before, after = LEAD_FRAMES + FADE_FRAMES, HOLD_FRAMES + FADE_FRAMES
    held = F.max_pool1d(F.pad(speaking[None, None], (after, before)), after + before + 1, stride=1)
    window = torch.hann_window(2 * FADE_FRAMES + 3, periodic=False, dtype=probability.dtype)[1:-1]
    padded = F.pad(held, (FADE_FRAMES, FADE_FRAMES), mode="replicate")
    return F.conv1d(padded, (window / window.sum())[None, None])[0, 0].clamp(0, 1)
