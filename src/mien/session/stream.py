"""What a session gives: frames with their time stamps, a few at a time, as they are drawn.

Axes: t video frames, h w space.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from jaxtyping import Float, UInt8

from mien.media import Sound
from mien.report import Stopwatch

Item = TypeVar("Item")


@dataclass(frozen=True)
class TimedFrames:
    """A few frames as RGB bytes, and when each is shown, in seconds from the first."""

    pictures: UInt8[np.ndarray, "t h w 3"]
    times: Float[np.ndarray, " t"]


@dataclass(frozen=True)
class FrameStream:
    """An iterator of frames, which are drawn as they are asked for, and what belongs to them.

    `count` is how many frames come in all; `sound` is what is heard with them, None where there is
    none; `notes` are for the user; `watch` holds the seconds of work spent so far, by part.
    """

    frames: Iterator[TimedFrames]
    count: int
    sound: Sound | None
    notes: tuple[str, ...]
    watch: Stopwatch

    def __iter__(self) -> Iterator[TimedFrames]:
        return self.frames


def within(context: Callable[[], AbstractContextManager], items: Iterator[Item]) -> Iterator[Item]:
    """Make every item inside a context, which is left before the item is passed on: a `with` around
    a `yield` would reach into the caller's code.
    """
    while True:
        with context():
            try:
                item = next(items)
            except StopIteration:
                return
        yield item
