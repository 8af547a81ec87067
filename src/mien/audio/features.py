"""Log-mel features, aligned exactly with video frames.

Axes: b batch, s samples, l audio steps, f mel bins. 16 kHz, 10 ms hop, 25 ms window, four steps per
video frame at 25 fps. Step i is centred on the middle of its own hop, and the steps of frame t are
4t .. 4t+3, so features and frames have no offset.
"""

import functools
import math
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from mien.ops.precision import full_precision
from mien.types import FPS, SAMPLE_RATE


def exact_ratio(whole: int, part: int) -> int:
    """whole / part; a remainder is an error, because it would accumulate to drift."""
    if part <= 0 or whole % part:
        raise ValueError(f"{whole} is not a whole number of {part}")
    return whole // part


HOP = 160
WINDOW = 400
FFT = 512
MEL_BINS = 80
SAMPLES_PER_FRAME = exact_ratio(SAMPLE_RATE, FPS)
STEPS_PER_FRAME = exact_ratio(SAMPLES_PER_FRAME, HOP)

# A full-scale sine has 0 dB in its bin. Normalised by fixed constants, not by the utterance's own
# statistics: speech is within about [-1.5, 1.5], and all below -90 dB is clamped to the floor.
_FLOOR_DB = -90.0
_CENTRE_DB = -50.0
_DB_PER_UNIT = 20.0
SILENCE = (_FLOOR_DB - _CENTRE_DB) / _DB_PER_UNIT


def frame_count(samples: int) -> int:
    """Video frames that `samples` of sound need; a trailing part of a frame counts as a frame.

    Raises:
        ValueError: there are no samples.
    """
    if samples <= 0:
        raise ValueError(f"sound needs at least one sample, not {samples}")
    return -(-samples // SAMPLES_PER_FRAME)


@full_precision
def log_mel(waveform: Float[Tensor, "b s"]) -> Float[Tensor, "b l f"]:
    """Log-mel steps, exactly `4 * frame_count(s)` of them; the last frame is padded with silence.

    `waveform` is mono at 16 kHz in [-1, 1]. Digital silence gives `SILENCE` in every bin.
    """
    samples = waveform.shape[1]
    filling = frame_count(samples) * SAMPLES_PER_FRAME - samples
    margin = (FFT - HOP) // 2  # centres each analysis window on its hop, and makes l exact
    padded = F.pad(waveform.float(), (margin, margin + filling))
    window = torch.hann_window(WINDOW, device=waveform.device)
    spectrum = torch.stft(padded, FFT, HOP, WINDOW, window, center=False, return_complex=True)
    power = spectrum.abs().square() / (window.sum() / 2).square()
    mel = torch.einsum("fn,bnl->blf", mel_filters(FFT, None).to(power), power)
    decibels = 10 * torch.log10(mel.clamp(min=10 ** (_FLOOR_DB / 10)))
    return (decibels - _CENTRE_DB) / _DB_PER_UNIT


def apply_gain(
    features: Float[Tensor, "b l f"], decibels: Float[Tensor, " b"]
) -> Float[Tensor, "b l f"]:
    """Gain in the log-mel domain: `log_mel` of the sound louder by `decibels`; silence stays so.

    A training augmentation, which makes the encoders robust to the level of a recording.
    """
    shifted = (features + (decibels / _DB_PER_UNIT)[:, None, None]).clamp(min=SILENCE)
    return torch.where(features <= SILENCE, features, shifted)


# The mel scale of Slaney's Auditory Toolbox: linear up to 1 kHz, then logarithmic.
_LINEAR_HZ, _HZ_PER_MEL, _LOG_STEP = 1000.0, 200 / 3, math.log(6.4) / 27


@functools.cache
def mel_filters(fft: int, norm: Literal["slaney"] | None) -> Float[Tensor, "f n"]:
    """Triangular mel filters over n = fft / 2 + 1 bins, with a peak of 1 or (slaney) equal area.

    Those of `librosa.filters.mel`, whose import takes longer than a sentence takes to encode.
    """
    linear_mels = _LINEAR_HZ / _HZ_PER_MEL
    highest = linear_mels + math.log(SAMPLE_RATE / 2 / _LINEAR_HZ) / _LOG_STEP
    mels = np.linspace(0.0, highest, MEL_BINS + 2)
    logarithmic = _LINEAR_HZ * np.exp(_LOG_STEP * (mels - linear_mels))
    edges = np.where(mels < linear_mels, _HZ_PER_MEL * mels, logarithmic)
    bins = np.linspace(0.0, SAMPLE_RATE / 2, 1 + fft // 2)
    rising = (bins - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - bins) / np.diff(edges)[1:, None]
    filters = np.maximum(0, np.minimum(rising, falling))
    if norm == "slaney":
        filters *= 2 / (edges[2:] - edges[:-2])[:, None]
    return torch.from_numpy(filters.astype(np.float32))
