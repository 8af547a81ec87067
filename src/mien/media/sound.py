"""Audio reading: any file that libsndfile or FFmpeg reads, as it is and as mono at 16 kHz.

Axes: c channels, s audio samples, n samples at another rate.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import soundfile
import soxr
import torch
from av.audio import AudioStream
from av.container import InputContainer
from av.error import FFmpegError
from jaxtyping import Float
from torch import Tensor

from mien.errors import UserError
from mien.media.spooled import Spooled, scale_down
from mien.paths import readable
from mien.types import SAMPLE_RATE

Array = np.ndarray

AUTO, MIX, SIDES = "auto", "mix", {"left": 0, "right": 1}  # which channel speaks, beside numbers
# Shares of the loudest channel's RMS: a channel below the first is empty, and a mix of all channels
# below the second means that they cancel each other out.
_EMPTY, _CANCELLED = 0.05, 0.3

_BLOCK = 1 << 18  # samples that are in memory at once
_MOST_PADDING = 4096  # samples by which an encoder pads its last block
# What soundfile raises for other formats than libsndfile's; TypeError for raw samples.
_NOT_LIBSNDFILE = soundfile.LibsndfileError, RuntimeError, TypeError
_EXACT = "mp4"  # container that stores the duration without padding; others estimate it


class EmptySound(UserError):
    """There is an audio track, and nothing in it."""


@dataclass(frozen=True)
class Sound:
    """Audio as it is in the file: channels within [-1, 1], at its own rate (samples a second)."""

    samples: Float[Array, "c s"]
    rate: int


def load_audio(path: Path) -> Float[Tensor, " s"]:
    """The sound of a file as mono 16 kHz in [-1, 1], as `speaking_channel` finds it.

    Raises:
        UserError: as `read_sound`.
    """
    sound = read_sound(path)
    return to_waveform(speaking_channel(sound)[0], sound.rate)


def read_sound(path: Path) -> Sound:
    """The sound of a file with its channels and rate.

    Audio that exceeds full scale is scaled down as a whole; audio that starts late in a video is
    preceded by silence.

    Raises:
        UserError: there is no such file, it has no audio track or no samples, or NaN or infinite
            ones.
    """
    path = readable(path, "sound")
    try:
        samples, rate = _read(path)
    except _NOT_LIBSNDFILE:
        samples, rate = _decode(path)
    if not samples.size:
        raise EmptySound(f"{path} has an empty audio track: take another file")
    if not np.isfinite([samples.min(), samples.max()]).all():
        raise UserError(f"{path} has samples that are NaN or infinite: repair it")
    scale_down(samples)
    return Sound(samples, rate)


def refuse_sound(path: Path) -> None:
    """Check that a file has an audio track; its samples are not read.

    Raises:
        UserError: there is no such file, or it has no audio track.
    """
    try:
        soundfile.info(str(readable(path, "sound")))
    except _NOT_LIBSNDFILE:
        with _opened(path):
            pass


def speaking_channel(
    sound: Sound, channel: str = AUTO, name: str = "the sound"
) -> tuple[Float[Array, " s"], str | None]:
    """One channel for the nets, and a note for the user about the choice, if needed.

    `channel` is left, right, a number counted from 1, mix (the mean of all), or auto: the mean of
    those that are not empty, or the loudest if they cancel each other out.

    Raises:
        UserError: there is no such channel.
    """
    samples = sound.samples
    if channel == MIX or (channel == AUTO and len(samples) == 1):
        return _mean(samples), None
    if channel != AUTO:
        number = SIDES.get(channel, int(channel) - 1 if channel.isdecimal() else -1)
        if not 0 <= number < len(samples):
            raise UserError(
                f"{name} has {len(samples)} channels, and none is {channel}: "
                "give left, right, a number from 1 on, or mix"
            )
        return samples[number], None
    loudness = [_loudness(one) for one in samples]
    loudest = int(np.argmax(loudness))
    audible = [i for i, one in enumerate(loudness) if one > _EMPTY * loudness[loudest]]
    if len(audible) <= 1:
        return samples[loudest], None
    mixed = _mean(samples, audible)
    if _loudness(mixed) < _CANCELLED * loudness[loudest]:
        note = f"the channels of {name} cancel each other out: only channel {loudest + 1} is used"
        return samples[loudest], note
    return mixed, None


def section(
    sound: Sound, start: float = 0.0, end: float | None = None, name: str = "the sound"
) -> Sound:
    """The part of a sound between two times in seconds; an `end` beyond the sound is its own end.

    Raises:
        UserError: the part is empty.
    """
    if start == 0 and end is None:
        return sound
    seconds = sound.samples.shape[1] / sound.rate
    last = seconds if end is None else min(end, seconds)
    if not 0 <= start < seconds:
        raise UserError(f"{name} lasts {seconds:.2f} s: give a start before that, not {start:g} s")
    first, after = round(start * sound.rate), round(last * sound.rate)
    if first >= after:
        raise UserError(
            f"{name} lasts {seconds:.2f} s: the part must end after its start {start:g} s, "
            f"not at {last:g} s"
        )
    return Sound(sound.samples[:, first:after], sound.rate)


def to_waveform(mono: Float[Array, " n"], rate: int) -> Float[Tensor, " s"]:
    """Resample mono to the nets' 16 kHz, in [-1, 1]."""
    stream = None if rate == SAMPLE_RATE else soxr.ResampleStream(rate, SAMPLE_RATE, 1)
    spooled = Spooled()
    for start in range(0, len(mono), _BLOCK):
        block, last = mono[start : start + _BLOCK], start + _BLOCK >= len(mono)
        block = np.ascontiguousarray(block, np.float32)
        spooled.append((block if stream is None else stream.resample_chunk(block, last))[:, None])
    resampled = spooled.array()
    scale_down(resampled)
    return torch.from_numpy(resampled[:, 0])


def _mean(samples: Float[Array, "c s"], of: Sequence[int] | None = None) -> Float[Array, " s"]:
    """The mean of channels (None: all), computed a block at a time."""
    if len(samples) == 1:
        return samples[0]
    spooled = Spooled()
    for start in range(0, samples.shape[1], _BLOCK):
        block = samples[:, start : start + _BLOCK]
        spooled.append((block if of is None else block[of]).mean(axis=0)[:, None])
    return spooled.array()[:, 0]


def _loudness(mono: Float[Array, " s"]) -> float:
    """Root mean square, computed a block at a time."""
    blocks = range(0, len(mono), _BLOCK)
    square = sum(float(np.square(mono[start : start + _BLOCK]).sum()) for start in blocks)
    return (square / max(len(mono), 1)) ** 0.5


def _read(path: Path) -> tuple[Float[Array, "c s"], int]:
    """All channels and their rate, through libsndfile."""
    spooled = Spooled()
    with soundfile.SoundFile(str(path)) as file:
        for block in file.blocks(_BLOCK, dtype="float32", always_2d=True):
            spooled.append(block)
        return spooled.array().T, file.samplerate


@contextmanager
def _opened(path: Path) -> Iterator[tuple[InputContainer, AudioStream]]:
    """A file that FFmpeg reads, and its first audio track.

    Raises:
        UserError: it cannot be opened or, within the block, decoded, or has no audio track.
    """
    try:
        with av.open(str(path)) as container:
            if not container.streams.audio:
                raise UserError(f"{path} has no audio track: take a wav, mp3, m4a, flac or a video")
            yield container, container.streams.audio[0]
    except (FFmpegError, OSError, ValueError) as error:
        raise UserError(
            f"{path} cannot be read as sound: take a wav, mp3, m4a, flac or a video"
        ) from error


def _decode(path: Path) -> tuple[Float[Array, "c s"], int]:
    """All channels and their rate, through FFmpeg."""
    with _opened(path) as (container, stream):
        rate = stream.rate
        # FFmpeg's own mixing would follow loudness conventions; here it only converts.
        planes = av.AudioResampler(format="fltp", layout=stream.layout, rate=rate)
        start, spooled = None, Spooled()
        for frame in container.decode(stream):
            if start is None and frame.time is not None:
                start = frame.time
            for part in planes.resample(frame):
                spooled.append(part.to_ndarray().T)
        exact = _EXACT in container.format.name.split(",")
        length = stream.duration and float(stream.duration * (stream.time_base or 0))
    samples = spooled.array().T
    padding = samples.shape[1] - round((length or 0.0) * rate)
    if exact and length and 0 < padding <= _MOST_PADDING:
        samples = samples[:, :-padding]
    late = round((start or 0.0) * rate)
    samples = np.pad(samples, ((0, 0), (late, 0))) if late > 0 else samples[:, -late or None :]
    return samples, rate
