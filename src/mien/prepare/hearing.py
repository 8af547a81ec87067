"""What a video sounds like, frame by frame, and whether its lips and its sound go together.

Axes: t video frames, s audio samples.
"""

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from mien.audio.features import SAMPLES_PER_FRAME
from mien.media.timeline import Damaged
from mien.metrics import lip_sync_at_lags

Array = np.ndarray

FULL_SCALE = 0.999
FARTHEST = 12  # frames that sound is looked for before and after the lips
# A lag is believed where lips follow the sound that well there, and that much better than at lags
# more than APART frames away, over that many frames: unrelated lips and sound pass in one of three
# clips of 3 seconds, in one of a hundred of 10. The two halves have to say the same, nearly.
CLEAR, CLEARER, APART, NEARLY = 0.4, 0.12, 4, 2
ENOUGH = 250  # frames


@dataclass(frozen=True)
class Heard:
    """The sound of a video a number a frame: root mean square, and the share at full scale."""

    loudness: Float[Array, " t"]
    clipped: Float[Array, " t"]

    def part(self, first: int, end: int) -> "Heard":
        """From frame `first` to before `end`; silence where there is no sound."""
        spare = max(0, end - len(self.loudness))
        loudness, clipped = (np.pad(all_, (0, spare)) for all_ in (self.loudness, self.clipped))
        return Heard(loudness[first:end], clipped[first:end])

    @property
    def level(self) -> Float[Array, " t"]:
        """dB of full scale."""
        return 20 * np.log10(np.maximum(self.loudness, 1e-6))


def listen(pieces: Iterable[Float[Array, " _"]]) -> Heard:
    """Hear a sound to its end; only two numbers a frame are kept."""
    rest = np.zeros(0, np.float32)
    loudness, clipped = array("f"), array("f")
    for piece in pieces:
        rest = np.concatenate((rest, piece))
        whole = len(rest) // SAMPLES_PER_FRAME * SAMPLES_PER_FRAME
        frames = rest[:whole].reshape(-1, SAMPLES_PER_FRAME)
        loudness.extend(np.sqrt(np.square(frames).mean(axis=1)))
        clipped.extend((np.abs(frames) >= FULL_SCALE).mean(axis=1))
        rest = rest[whole:]
    return Heard(np.array(loudness, np.float32), np.array(clipped, np.float32))


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


def sound_late(gaps: Float[Array, " t"], heard: Heard) -> Lateness:
    """Compare lips and sound at all shifts of up to half a second."""
    reach = min(FARTHEST, len(gaps) // 4)
    if reach <= APART:
        return Lateness(None, 0, 0.0)
    best, at_lags = _best_lag(gaps, heard.loudness, reach)
    elsewhere = max(value for lag, value in at_lags.items() if abs(lag - best) > APART)
    clear = at_lags[best] >= CLEAR and at_lags[best] - elsewhere >= CLEARER
    middle = len(gaps) // 2
    told = (
        clear
        and len(gaps) >= ENOUGH
        and all(
            abs(_best_lag(gaps[half], heard.loudness[half], reach)[0] - best) <= NEARLY
            for half in (slice(None, middle), slice(middle, None))
        )
    )
    return Lateness(-best if told else None, -best, at_lags[best])


def _best_lag(
    gaps: Float[Array, " t"], loudness: Float[Array, " t"], reach: int
) -> tuple[int, dict[int, float]]:
    at_lags = lip_sync_at_lags(torch.from_numpy(gaps), torch.from_numpy(loudness), reach)
    return max(at_lags, key=lambda lag: at_lags[lag]), at_lags


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
