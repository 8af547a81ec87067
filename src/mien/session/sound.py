"""The sound a portrait speaks: from a file, samples or chunks to the input of the nets.

Axes: c channels, s audio samples at 16 kHz, n samples at another rate, t video frames.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mien.audio.features import SAMPLE_RATE, SAMPLES_PER_FRAME, frame_count
from mien.audio.pretrained import feature_pieces
from mien.audio.voice_activity import speech_gate, speech_probability
from mien.errors import UserError
from mien.media import AUTO, Sound, read_sound, section, speaking_channel, to_waveform
from mien.motion.speech_to_motion import SpeechToMotion
from mien.types import AudioContext

Samples = np.ndarray | Tensor  # of one channel, or channels x samples
# A file; a Sound; or samples, or an iterable of chunks of samples, with their rate.
SoundSource = Path | str | Sound | tuple[Samples | Iterable[Samples], int]


@dataclass(frozen=True)
class EncodedSound:
    """The original sound, its encoding, the voice activity gate of every video frame (1: speech,
    0: none), and notes for the user.
    """

    sound: Sound
    context: AudioContext
    gate: Float[Tensor, " t"]
    notes: tuple[str, ...]


def load_sound(
    source: SoundSource, channel: str = AUTO, start: float = 0.0, end: float | None = None
) -> tuple[Sound, Float[Tensor, " s"], tuple[str, ...]]:
    """The original sound between `start` and `end` (seconds; None: to its end), its speech as a
    mono waveform at 16 kHz, at least a frame long, and notes for the user.

    Raises:
        UserError: it cannot be read, is too short, or has no such channel.
    """
    name = str(source) if isinstance(source, Path | str) else "the sound"
    sound = section(_sound_of(source, name), start, end, name)
    mono, note = speaking_channel(sound, channel, name)
    waveform = to_waveform(mono, sound.rate)
    if waveform.shape[0] < SAMPLES_PER_FRAME:
        milliseconds = 1000 * waveform.shape[0] / SAMPLE_RATE
        part = name if start == 0 and end is None else f"the part of {name} from start to end"
        raise UserError(
            f"{part} lasts {milliseconds:.0f} ms, less than a video frame (40 ms): "
            "give a longer sound"
        )
    return sound, waveform, () if note is None else (note,)


def encode_waveform(
    speech: SpeechToMotion, waveform: Float[Tensor, " s"]
) -> tuple[AudioContext, Float[Tensor, " t"]]:
    """The encoded sound, and the voice activity gate of every video frame (1: speech, 0: none)."""
    device = next(speech.parameters()).device
    pieces = feature_pieces(speech.config.front_end, waveform[None])
    gate = speech_gate(speech_probability(waveform, frame_count(waveform.shape[0])))
    return speech.encode_pieces(piece.to(device) for piece in pieces), gate.to(device)


def _sound_of(source: SoundSource, name: str) -> Sound:
    if isinstance(source, Sound):
        return source
    if isinstance(source, Path | str):
        return read_sound(Path(source))
    given, rate = source
    parts = [given] if isinstance(given, Samples) else list(given)
    if not parts:
        raise UserError(f"{name} has no chunk of samples: give at least 40 ms of it")
    parts = [_channels_first(part, name) for part in parts]
    if len({len(part) for part in parts}) > 1:
        raise UserError(f"{name} changes its number of channels between chunks: give one number")
    samples = np.concatenate(parts, axis=1)
    if 0 < samples.shape[1] < samples.shape[0]:
        raise UserError(
            f"{name} has {samples.shape[0]} channels of {samples.shape[1]} samples: "
            "give channels x samples, not samples x channels"
        )
    if rate <= 0:
        raise UserError(f"{name} has a rate of {rate} samples a second: give the true one")
    if not np.isfinite(samples).all():
        raise UserError(f"{name} has NaN or infinite samples: repair it")
    return Sound(samples / max(1.0, float(np.abs(samples).max(initial=0.0))), int(rate))


def _channels_first(part: Samples, name: str) -> Float[np.ndarray, "c _"]:
    """Channels x samples; integers are scaled to [-1, 1]."""
    if isinstance(part, Tensor):
        part = part.detach().cpu()
        part = (part.float() if part.is_floating_point() else part).numpy()
    array = part
    if array.ndim not in (1, 2):
        raise UserError(f"{name} has {array.ndim} axes: give samples, or channels x samples")
    if np.issubdtype(array.dtype, np.integer):
        if array.dtype.itemsize > 4:
            raise UserError(
                f"{name} has samples of {array.dtype}, whose full scale is not known: "
                "give them as int16, int32 or float"
            )
        limits = np.iinfo(array.dtype)
        middle = 0 if limits.min else (limits.max + 1) / 2
        array = (array - middle) / (limits.max + 1 - middle)
    return np.atleast_2d(array).astype(np.float32)


def encode_sound(
    speech: SpeechToMotion,
    source: SoundSource,
    channel: str,
    start: float = 0.0,
    end: float | None = None,
) -> EncodedSound:
    """Read and encode a sound, or its part from `start` to `end`, once for any number of portraits.

    Raises:
        UserError: as `load_sound`.
    """
    sound, waveform, notes = load_sound(source, channel, start, end)
    with torch.inference_mode():
        context, gate = encode_waveform(speech, waveform)
    return EncodedSound(sound, context, gate, notes)
