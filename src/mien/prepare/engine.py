"""Parallel map over independent items: in processes on this machine, or on a Ray cluster.

A worker that is killed (out of memory, a broken driver) or hangs costs its item and nothing else.
Results depend neither on the worker nor on the order.

A watchdog ends a worker that makes no progress for `patience` seconds: `faulthandler` exits the
process from a thread of its own that does not need the GIL, so it also works where a decoder never
returns. Long work resets the watchdog with `progress`.
"""

import faulthandler
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    wait,
)
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing import parent_process
from threading import Thread
from typing import Any, TypeVar, cast

from mien.command_line import positive
from mien.errors import UserError
from mien.prepare.worker_context import WorkerContext, changed_environment
from mien.report import usable_cores

Item = TypeVar("Item")
Result = TypeVar("Result")

PATIENCE = 600.0  # seconds
HUNG = "nothing was decoded for {patience:.0f} s: the decoder hangs on this file"
KILLED = "the worker process was killed: is there enough memory?"
ENGINES = ("processes", "ray")
ALL_CORES = 0
_work: Callable[[Any], Any] | None = None
_patience = PATIENCE
_dev_null = 2  # file descriptor faulthandler writes to; it must stay open
_armed = 0.0  # when the watchdog was last reset; 0: idle


class Killed(UserError):
    """The worker process ended without a result."""


def run(
    engine: str,
    make_work: Callable[[], Callable[[Item], Result]],
    items: Sequence[Item],
    workers: int | None,
    patience: float = PATIENCE,
) -> Iterator[tuple[Item, Result | Killed]]:
    """Map on the named engine with so many workers (None: one process, or all cores of the cluster;
    ALL_CORES: those that this process may use); yields results as they come. Work that makes no
    progress for `patience` seconds is ended.
    """
    if engine == "ray":
        return run_on_ray(make_work, items, workers, patience)
    count = usable_cores() if workers == ALL_CORES else workers or 1
    return run_in_processes(make_work, items, count, patience)


def workers_of(text: str) -> int:
    """Parse the number of workers of a command line: a number, or `all`."""
    return ALL_CORES if text == "all" else int(positive(int)(text))


def progress() -> None:
    """Reset the watchdog of this worker process."""
    if _armed and time.monotonic() - _armed > 1:
        _arm()


def run_in_processes(
    make_work: Callable[[], Callable[[Item], Result]],
    items: Iterable[Item],
    workers: int,
    patience: float = PATIENCE,
) -> Iterator[tuple[Item, Result | Killed]]:
    """Map in so many processes, each of which calls `make_work` once; yields results as they come.

    When a process is killed or hangs, the pool breaks with all items in flight. Each of those is
    then retried in a process of its own, so that the culprit is found and the others succeed.

    Raises:
        UserError: no worker process can start.
    """
    waiting = iter(items)
    while True:
        unfinished: dict[Future[Result], Item] = {}
        suspects: list[Item] = []
        context = WorkerContext(make_work)
        pool = _pool(make_work, workers, patience, context)
        try:
            for item in waiting:
                suspects = [item]  # until it is submitted
                unfinished[pool.submit(_do, item)] = item
                suspects = []
                if len(unfinished) > workers:
                    yield from _finished(unfinished)
            while unfinished:
                yield from _finished(unfinished)
            return
        except BrokenProcessPool:
            suspects += unfinished.values()
        except BaseException:
            context.terminate()  # stop at once, without waiting for long videos
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
        with ThreadPoolExecutor(workers) as threads:
            yield from zip(
                suspects, threads.map(partial(_alone, make_work, patience), suspects), strict=True
            )


def _finished(unfinished: dict[Future[Result], Item]) -> Iterator[tuple[Item, Result]]:
    """Pop and yield finished results; a future whose process died stays in and raises."""
    done, _ = wait(unfinished, return_when=FIRST_COMPLETED)
    for future in done:
        result = future.result()
        yield unfinished.pop(future), result


def _alone(
    make_work: Callable[[], Callable[[Item], Result]], patience: float, item: Item
) -> Result | Killed:
    with _pool(make_work, 1, patience, WorkerContext(make_work)) as pool:
        try:
            pool.submit(_ready).result()
        except BrokenProcessPool as error:
            raise UserError("no worker process can start: is there enough memory?") from error
        begin = time.monotonic()
        try:
            return pool.submit(_do, item).result()
        except BrokenProcessPool:
            hung = time.monotonic() - begin >= patience
            return Killed(HUNG.format(patience=patience) if hung else KILLED)


def _pool(
    make_work: Callable[[], Callable[[Item], Result]],
    workers: int,
    patience: float,
    context: WorkerContext,
) -> ProcessPoolExecutor:
    given = make_work, patience, changed_environment()
    return ProcessPoolExecutor(workers, context, _prepare_process, given)


def _prepare_process(
    make_work: Callable[[], Callable[[Any], Any]],
    patience: float,
    changed: dict[str, str | None],
) -> None:
    """As `_prepare_worker`, with what has changed in the environment since the server, from which
    this process was forked, was started; variables that are read at import keep their values.
    """
    for name, value in changed.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    _prepare_worker(make_work, patience)


def _prepare_worker(make_work: Callable[[], Callable[[Any], Any]], patience: float) -> None:
    import cv2
    import torch

    global _work, _patience, _dev_null
    _patience, _dev_null = patience, os.open(os.devnull, os.O_WRONLY)
    if parent_process() is not None:
        signal.signal(
            signal.SIGINT, signal.SIG_IGN
        )  # handled by the parent, which ends its children
        Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)  # the processes are the parallelism
    cv2.setNumThreads(1)
    _work = make_work()


def _end_with_parent() -> None:
    """Exit with the parent: an orphaned worker would write at the same time as the next run."""
    if (parent := parent_process()) is not None:
        parent.join()
        os._exit(1)


def _ready() -> bool:
    return _work is not None


def _do(item: Any) -> Any:
    global _armed
    assert _work is not None
    _arm()
    try:
        return _work(item)
    finally:
        faulthandler.cancel_dump_traceback_later()
        _armed = 0.0


def _arm() -> None:
    global _armed
    _armed = time.monotonic()
    faulthandler.dump_traceback_later(_patience, exit=True, file=_dev_null)


class _RayWorker:
    """The Ray actor: one per core of the cluster."""

    def __init__(self, make_work: Callable[[], Callable[[Any], Any]], patience: float) -> None:
        _prepare_worker(make_work, patience)

    def ready(self) -> bool:
        return _ready()

    def do(self, item: Any) -> Any:
        return _do(item)


def run_on_ray(
    make_work: Callable[[], Callable[[Item], Result]],
    items: Iterable[Item],
    workers: int | None,
    patience: float = PATIENCE,
) -> Iterator[tuple[Item, Result | Killed]]:
    """Map on a Ray cluster (`pip install "mien[ray]"`): that of `RAY_ADDRESS`, or a local one.

    Each worker takes a core of any machine; all machines must see the folders under the same paths.
    Work starts with the first worker that is ready and goes on while any is left.

    Raises:
        UserError: Ray is not installed, or no worker can start while there is work.
    """
    try:
        import ray  # pyright: ignore[reportMissingImports]
        from ray import exceptions  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UserError('Ray is not installed: pip install "mien[ray]"') from error
    if not ray.is_initialized():
        try:
            ray.init(log_to_driver=False)
        except (ConnectionError, ValueError) as error:
            raise UserError(f"no Ray cluster can be reached: {error}") from error
    remote = ray.remote(num_cpus=1, max_restarts=0, max_task_retries=0)(_RayWorker).remote
    cores = int(ray.cluster_resources().get("CPU", 1))
    beginning: dict[Any, Any] = {}
    busy: dict[Any, tuple[Any, Item]] = {}

    def begin() -> None:
        worker = remote(make_work, patience)
        beginning[worker.ready.remote()] = worker

    for _ in range(min(workers or cores, cores)):
        begin()
    waiting = deque(items)
    while busy or waiting:
        [reference], _ = ray.wait([*busy, *beginning], num_returns=1)
        worker, item = busy.pop(reference, (None, None))
        if worker is None:
            worker = beginning.pop(reference)
            try:
                ray.get(reference)
            except exceptions.RayActorError as error:
                if not beginning and not busy:
                    raise UserError(f"no Ray worker can start: {error}") from error
                continue
        else:
            try:
                result = ray.get(reference)
            except exceptions.RayTaskError as error:
                raise error.cause from error
            except exceptions.RayError:
                # Not restarted by Ray itself: such an actor rejects calls until it is up again.
                result, worker = Killed(KILLED), None
                begin()
            yield cast(Item, item), result
        if worker is not None and waiting:
            item = waiting.popleft()
            busy[worker.do.remote(item)] = worker, item
