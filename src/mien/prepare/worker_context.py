"""How worker processes of the preparation start."""

import sys
from collections.abc import Callable
from functools import partial
from multiprocessing import set_forkserver_preload
from typing import Any

if sys.platform == "linux":
    from multiprocessing.context import ForkServerContext as _Starting
    from multiprocessing.context import ForkServerProcess as _Process
else:
    from multiprocessing.context import SpawnContext as _Starting
    from multiprocessing.context import SpawnProcess as _Process

PRELOADED = ("cv2", "mien.ops.selective_scan_numba")  # what work imports late


class WorkerContext(_Starting):
    """A context that keeps the processes it started.

    On Linux they are forked from a server that has imported the work's module and run nothing: no
    start takes seconds of imports, and all share that memory. Elsewhere they are spawned: libraries
    of macOS do not survive a fork. A fork of this process would copy threads and locks of the nets'
    libraries.
    """

    def __init__(self, make_work: Callable[[], Any]) -> None:
        super().__init__()
        self._started: list[_Process] = []
        if sys.platform == "linux":  # heeded by the first that starts the server
            made_by = make_work.func if isinstance(make_work, partial) else make_work
            set_forkserver_preload([made_by.__module__, *PRELOADED])

    def Process(self, *args: Any, **kwargs: Any) -> _Process:  # noqa: N802 (overrides)
        """Create a process; called by ProcessPoolExecutor."""
        self._started.append(_Process(*args, **kwargs))
        return self._started[-1]

    def terminate(self) -> None:
        """Terminate all processes that are still running."""
        for process in self._started:
            if process.is_alive():
                process.terminate()
