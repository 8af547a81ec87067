"""Render motion as a stream, a few frames at a time, equal to rendering all of it at once.

Axes: t video frames, n frames of a chunk with its neighbours, m implicit motion, k implicit motion
followed by mesh motion, h w space. Batch is 1.
"""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from mien.devices import worker_threads
from mien.portrait.animator import Animator
from mien.portrait.still_head import StillHead
from mien.types import Appearance, Guide, PreparedSource

GuideOf = Callable[[Float[Tensor, "1 t k"]], Guide | None]  # the frames' guides, batch axis t
Render = Callable[[PreparedSource, Tensor, Guide | None, slice], Tensor]  # as render_prepared
Finished = TypeVar("Finished")


def no_guides(motion: Float[Tensor, "1 t k"]) -> None:
    """No frame is guided."""


def _unchanged(frames: Float[Tensor, "t 3 h w"]) -> Float[Tensor, "t 3 h w"]:
    """The frames as they are rendered."""
    return frames


FRAMES_AT_ONCE = 8  # rendered together; more is no faster on a CPU and takes more memory


def render_stream(
    animator: Animator,
    appearance: Appearance,
    source_motion: Float[Tensor, "1 m"],
    windows: Iterator[Float[Tensor, "1 _ k"]],
    guide_of: GuideOf = no_guides,
    render: Render | None = None,
    chunks_at_once: int = 1,
    context: Callable[[], AbstractContextManager] = nullcontext,
    finish: Callable[[Tensor], Finished] = _unchanged,  # pyright: ignore[reportArgumentType]
) -> Iterator[Finished]:
    """Render motion a few frames at a time, equal to rendering all at once: no seam between chunks.

    Each chunk is rendered with the neighbours that the animator's convolution over frames covers.
    The animator takes the first m of k dimensions, `guide_of` all of them. `render` is that of
    another engine (default: the animator's own). Of `chunks_at_once` chunks each is rendered in a
    thread of its own, inside a `context`, which torch keeps for each thread; there `finish` makes
    of its frames (t 3 h w) what is yielded.
    """
    own, source = source_motion.shape[1], animator.prepare_source(appearance, source_motion)
    render = render or animator.render_prepared

    def render_chunk(motion: Tensor, before: int, count: int) -> Finished:
        drawn = slice(before, before + count)
        with context():
            frames = render(source, motion[..., :own], guide_of(motion[:, drawn]), drawn)
            return finish(frames[0])

    chunks = with_neighbours(windows, FRAMES_AT_ONCE, animator.config.temporal_context)
    yield from _in_threads(render_chunk, chunks, chunks_at_once)


def _in_threads(
    work: Callable[[Tensor, int, int], Finished],
    chunks: Iterator[tuple[Tensor, int, int]],
    threads: int,
) -> Iterator[Finished]:
    """The results in order; with one thread, the caller does the work. At first as many are in work
    as there are threads, so that the first is given early; later twice as many are in work or wait.

    An error of `chunks` is raised after the results of those before it.
    """
    if threads == 1:
        yield from (work(*chunk) for chunk in chunks)
        return
    running: deque[Future[Finished]] = deque()
    pool = worker_threads(threads)
    given, failure = 0, None
    try:
        while True:
            try:
                chunk = next(chunks)
            except StopIteration:
                break
            except Exception as error:
                failure = error
                break
            running.append(pool.submit(work, *chunk))
            while running and (
                running[0].done() or len(running) >= min(threads + given, 2 * threads)
            ):
                yield running.popleft().result()
                given += 1
        while running:
            yield running.popleft().result()
    finally:
        for waiting in running:
            waiting.cancel()
        wait(running)
    if failure is not None:
        raise failure


def render_still_head(
    head: StillHead,
    windows: Iterator[Float[Tensor, "1 _ k"]],
    guide_of: GuideOf,
    chunks_at_once: int,
    context: Callable[[], AbstractContextManager],
    finish: Callable[[Tensor], Finished],
) -> Iterator[Finished]:
    """The same where the head stays: of the motion only the guides are drawn."""

    def render_chunk(motion: Tensor, before: int, count: int) -> Finished:
        with context():
            guide = guide_of(motion[:, before : before + count])
            assert guide is not None
            return finish(head.render(guide)[0])

    chunks = with_neighbours(windows, FRAMES_AT_ONCE, 0)
    yield from _in_threads(render_chunk, chunks, chunks_at_once)


def with_neighbours(
    windows: Iterator[Float[Tensor, "1 t m"]], size: int, context: int
) -> Iterator[tuple[Float[Tensor, "1 n m"], int, int]]:
    """Re-chunk a stream of windows into chunks of `size` frames with `context` more on both sides.

    Yields (frames, how many precede the chunk, how many the chunk has); at the ends of the stream
    there are fewer neighbours, and the last chunk may be short.
    """
    held: Tensor | None = None  # `before` frames that were yielded, then those that were not yet
    before = 0
    for window in windows:
        held = window if held is None else torch.cat((held, window), dim=1)
        while held.shape[1] >= before + size + context:
            yield held[:, : before + size + context], before, size
            drop = max(0, before + size - context)
            held, before = held[:, drop:], before + size - drop
    while held is not None and held.shape[1] > before:
        count = min(size, held.shape[1] - before)
        yield held[:, : before + count + context], before, count
        drop = max(0, before + count - context)
        held, before = held[:, drop:], before + count - drop
