"""How worker processes of the preparation start.

On Linux they are forked from a server: a process, started with the first of them and ended with
this one, that has imported the work's module and run nothing. The first start waits for these
imports; no further one does, also after a worker was killed, and all share their memory. Elsewhere
workers are spawned: libraries of macOS do not survive a fork. A fork of this process would copy
threads and locks of the nets' libraries.
"""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing import set_forkserver_preload
from multiprocessing.context import SpawnContext, SpawnProcess
from typing import Any

from mien.errors import UserError

PRELOADED = ("cv2", "mien.ops.selective_scan_numba")  # what work imports late
_of_server: dict[str, str] = {}  # the environment that it was started in

if sys.platform == "linux":
    from multiprocessing.context import ForkServerProcess
    from multiprocessing.forkserver import ensure_running

    class _Forked(ForkServerProcess):
        def start(self) -> None:
            """Start.

            Raises:
                UserError: the server has ended.
            """
            try:
                super().start()
            except (EOFError, OSError) as error:
                raise UserError(
                    f"no worker process can start ({error}): is there enough memory?"
                ) from error


class WorkerContext(SpawnContext):
    """A context for ProcessPoolExecutor that keeps the processes it started."""

    def __init__(self, make_work: Callable[[], Any]) -> None:
        super().__init__()
        self._kind = _process_kind(make_work)
        self._started: list[Any] = []

    def Process(self, *args: Any, **kwargs: Any) -> Any:  # noqa: N802 (overrides)
        """Create a process; called by ProcessPoolExecutor."""
        self._started.append(self._kind(*args, **kwargs))
        return self._started[-1]

    def terminate(self) -> None:
        """Terminate all processes that are still running."""
        for process in self._started:
            if process.is_alive():
                process.terminate()


def changed_environment() -> dict[str, str | None]:
    """The variables that have another value now than when the server was started; None: no more."""
    if not _of_server:
        return {}
    names = os.environ.keys() | _of_server.keys()
    now = {name: os.environ.get(name) for name in names}
    return {name: value for name, value in now.items() if value != _of_server.get(name)}


def _process_kind(make_work: Callable[[], Any]) -> type:
    if sys.platform != "linux":
        return SpawnProcess
    made_by = make_work.func if isinstance(make_work, partial) else make_work
    set_forkserver_preload([made_by.__module__, *PRELOADED])  # of the server, where it starts now
    try:
        with _server_environment():
            ensure_running()
    except OSError:  # its socket cannot be: the path of TMPDIR is too long, or on a share
        return SpawnProcess
    return _Forked


@contextmanager
def _server_environment() -> Iterator[None]:
    """With the paths of this process, not its working folder, to import from; a Ctrl-C is for this
    process alone.
    """
    before = dict(os.environ)
    masked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    paths = os.pathsep.join(path for path in sys.path if path)
    os.environ.update(PYTHONSAFEPATH="1", PYTHONPATH=paths)
    try:
        yield
        if not _of_server:
            _of_server.update(os.environ)
    finally:
        for name in ("PYTHONSAFEPATH", "PYTHONPATH"):
            if name in before:
                os.environ[name] = before[name]
            else:
                del os.environ[name]
        signal.pthread_sigmask(signal.SIG_SETMASK, masked)
