"""What a video sounds like, frame by frame, and whether its lips and its sound go together.

Axes: t video frames, s audio samples.
"""

from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mien.audio.features import SAMPLES_PER_FRAME
from mien.data.lips_from_sound import LONGEST
from mien.media.timeline import Damaged
from mien.metrics import correlation_at_lags, without_slow

Array = np.ndarray

FULL_SCALE = 0.999
FARTHEST = 12  # frames of lateness from which on it counts as that much or more
SEARCHED = 18  # frames that sound is looked for before and after the lips
# A lag is believed where what is faster than 0.6 s follows that well there, and the sum of both
# correlations is that much better than at lags more than APART frames away, over that many frames.
# Of 40 pairs of lips and strangers' sounds none passed, of 17 clips of 4 to 8 s and their own 16.
# Halves that are long enough themselves have to say the same, nearly.
CLEAR, CLEARER, APART, NEARLY = 0.4, 0.5, 3, 2
ENOUGH = 100  # frames


@dataclass(frozen=True)
class AudioAnalysis:
    """The sound of a video, three numbers a frame: root mean square, the share at full scale, and
    how far it lets expect the lips apart.
    """

    loudness: Float[Array, " t"]
    clipped: Float[Array, " t"]
    lips: Float[Array, " t"]

    def part(self, first: int, end: int) -> "AudioAnalysis":
        """From frame `first` to before `end`; silence where there is no sound."""
        spare = max(0, end - len(self.loudness))
        return AudioAnalysis(*(np.pad(all_, (0, spare))[first:end] for all_ in vars(self).values()))

    @property
    def level(self) -> Float[Array, " t"]:
        """dB of full scale."""
        return 20 * np.log10(np.maximum(self.loudness, 1e-6))


def no_audio(frames: int) -> AudioAnalysis:
    """Of a video without a sound track."""
    return AudioAnalysis(*np.zeros((3, frames), np.float32))


def analyse_audio(
    pieces: Iterable[Float[Array, " _"]], lips_of: Callable[[Tensor], Float[Array, " _"]]
) -> AudioAnalysis:
    """Hear a sound to its end; only three numbers a frame are kept. `lips_of` reads the gap of the
    lips in each frame off a sound of up to LONGEST samples.
    """
    rest = np.zeros(0, np.float32)
    loudness, clipped, lips = array("f"), array("f"), array("f")

    def take(samples: Array) -> None:
        frames = samples.reshape(-1, SAMPLES_PER_FRAME)
        loudness.extend(np.sqrt(np.square(frames).mean(axis=1)))
        clipped.extend((np.abs(frames) >= FULL_SCALE).mean(axis=1))
        lips.extend(lips_of(torch.from_numpy(samples)))

    for piece in pieces:
        rest = np.concatenate((rest, piece))
        while len(rest) >= LONGEST:
            take(rest[:LONGEST])
            rest = rest[LONGEST:]
    take(rest[: len(rest) // SAMPLES_PER_FRAME * SAMPLES_PER_FRAME])
    return AudioAnalysis(*(np.array(all_, np.float32) for all_ in (loudness, clipped, lips)))


@dataclass(frozen=True)
class Lateness:
    """How lips and sound fit together.

    Args:
        frames: by which the sound comes after the lips (negative: before; FARTHEST: that much or
            more); None where lips do not tell clearly enough to act on it.
        best: the same, believed or not.
        follow: how well lips follow the sound there, from -1 to 1.
    """

    frames: int | None
    best: int
    follow: float


def sound_late(gaps: Float[Array, " t"], audio: AudioAnalysis) -> Lateness:
    """Compare lips with what the sound lets expect of them, at all shifts of up to 0.7 s."""
    reach = min(SEARCHED, len(gaps) // 4)
    if reach <= APART:
        return Lateness(None, 0, 0.0)
    best, at_lags, fast = _best_lag(gaps, audio.lips, reach)
    elsewhere = max(value for lag, value in at_lags.items() if abs(lag - best) > APART)
    clear = fast[best] >= CLEAR and at_lags[best] - elsewhere >= CLEARER
    middle = len(gaps) // 2
    halves = (slice(None, middle), slice(middle, None)) if middle >= ENOUGH else ()
    agreed = all(
        abs(_best_lag(gaps[half], audio.lips[half], reach)[0] - best) <= NEARLY for half in halves
    )
    certain = clear and agreed and len(gaps) >= ENOUGH
    late = max(-FARTHEST, min(FARTHEST, -best))
    return Lateness(late if certain else None, late, at_lags[best] / 2)


def _best_lag(
    gaps: Float[Array, " t"], lips: Float[Array, " t"], reach: int
) -> tuple[int, dict[int, float], dict[int, float]]:
    """The lag; at every lag the sum of the correlations of all and of what is fast; the latter."""
    slow = _at_lags(gaps, lips, reach)
    fast = _at_lags(without_slow(gaps), without_slow(lips), reach)
    both = {lag: slow[lag] + fast[lag] for lag in slow}
    return max(both, key=lambda lag: both[lag]), both, fast


def _at_lags(a: Float[Array, " t"], b: Float[Array, " t"], reach: int) -> dict[int, float]:
    return correlation_at_lags(torch.from_numpy(a), torch.from_numpy(b), reach)


class SoundInOrder:
    """Parts of a sound that is read once, from its beginning on; silence where there is none."""

    def __init__(self, pieces: Iterator[Float[Array, " _"]]) -> None:
        self._pieces, self._begin = pieces, 0
        self._kept = np.zeros(0, np.float32)

    def between(self, begin: int, end: int) -> Float[Array, " s"]:
        """The samples from `begin` to before `end`; what lies before `begin` is forgotten."""
        while self._begin + len(self._kept) < end:
            try:
                piece = next(self._pieces)
            except (StopIteration, Damaged):
                piece = np.zeros(end - self._begin - len(self._kept), np.float32)
            self._kept = np.concatenate((self._kept, piece))
            spare = min(max(0, begin - self._begin), len(self._kept))
            self._kept, self._begin = self._kept[spare:], self._begin + spare
        lacking = max(0, self._begin - begin)
        return np.pad(self._kept[: end - self._begin], (lacking, 0))[-(end - begin) :]
