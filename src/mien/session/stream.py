"""Output of a session: frames with their time stamps, a few at a time, as they are rendered.

Axes: t video frames, h w space.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import wait
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TypeVar, cast

import numpy as np
import torch
from jaxtyping import Float, UInt8

from mien.devices import CPU, worker_threads
from mien.media import Sound
from mien.report import Stopwatch
from mien.types import FPS

Item = TypeVar("Item")
_END = object()


@dataclass(frozen=True)
class TimedFrames:
    """A few frames as RGB bytes, and when each is shown, in seconds from the first."""

    pictures: UInt8[np.ndarray, "t h w 3"]
    times: Float[np.ndarray, " t"]


@dataclass(frozen=True)
class FrameStream:
    """An iterator of frames, which are rendered on demand, with their sound and notes.

    `count` is the total number of frames; `sound` is the audio track, None where there is none;
    `notes` are for the user; `watch` has the seconds spent so far, by part (motion that is made
    while frames are rendered counts only where rendering waits for it); `engine` names what
    renders, where that is not the session's engine; `sampling` says how frames or their motion are
    sampled, where they are.
    """

    frames: Iterator[TimedFrames]
    count: int
    sound: Sound | None
    notes: tuple[str, ...]
    watch: Stopwatch
    engine: str | None = None
    sampling: str | None = None

    def __iter__(self) -> Iterator[TimedFrames]:
        return self.frames


def timed_frames(
    chunks: Iterator[UInt8[np.ndarray, "_ h w 3"]],
    context: Callable[[], AbstractContextManager],
    watch: Stopwatch,
) -> Iterator[TimedFrames]:
    """Chunks of frames, each made inside a context, with their time stamps."""
    done = 0
    for pictures in watch.measure_items("render", iterate_in_context(context, chunks)):
        yield TimedFrames(pictures, np.arange(done, done + len(pictures)) / FPS)
        done += len(pictures)


def prefetch(items: Iterator[Item], device: torch.device) -> Iterator[Item]:
    """The items; on a CPU, while one is used, another thread makes the next with one of torch's
    threads.

    The first one is made by the caller's thread, with all of them: until then there is nothing else
    to do. To close it waits until the item in work is made.
    """
    if device.type != CPU or torch.get_num_threads() == 1:
        yield from items
        return
    pool, item = worker_threads(1, each=1), next(items, _END)
    while item is not _END:
        following = pool.submit(next, items, _END)
        try:
            yield cast(Item, item)
        except GeneratorExit:
            wait([following])
            raise
        item = following.result()


def iterate_in_context(
    context: Callable[[], AbstractContextManager], items: Iterator[Item]
) -> Iterator[Item]:
    """Make every item inside a context, which is left before the item is yielded: a `with` around a
    `yield` would also cover the caller's code.
    """
    while True:
        with context():
            try:
                item = next(items)
            except StopIteration:
                return
        yield item
