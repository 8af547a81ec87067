"""The parts of a video that become clips: one face, one shot, neither too short nor too long."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from mien.prepare.tracking import Track, TrackedFaces
from mien.types import FPS


@dataclass(frozen=True)
class Span:
    """The frames of one clip: from `first` on (counted from the video's beginning), one face."""

    track: int
    first: int
    faces: TrackedFaces

    def __len__(self) -> int:
        return len(self.faces)

    @property
    def end(self) -> int:
        """The first frame that is not part of it."""
        return self.first + len(self)


def split(number: int, track: Track, max_seconds: float) -> list[Span]:
    """Divide a track into nearly equal parts, none longer than `max_seconds`."""
    parts = int(np.ceil(len(track) / (max_seconds * FPS)))
    edges = np.linspace(0, len(track), parts + 1).round().astype(int).tolist()
    seen = track.faces
    return [Span(number, track.first + a, seen[a:b]) for a, b in pairwise(edges)]
