"""How functions are compiled for the CPU by numba."""

import atexit
import functools
import importlib
import inspect
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from typing import Any

import numba
import torch
from numba.core import config

_FOLDER = "NUMBA_CACHE_DIR"

_log = logging.getLogger("mien")


@functools.cache
def ensure_cache_folder() -> None:
    """Give numba a temporary cache folder for this process if the home folder is not writable.

    In a container without a home and with read-only packages, code that asks numba to cache fails
    otherwise.
    """
    home = os.path.expanduser("~")  # noqa: PTH111 (Path raises where there is none)
    if os.environ.get(_FOLDER) or os.access(home, os.W_OK):
        return
    folder = tempfile.mkdtemp(prefix="mien-numba-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ[_FOLDER] = folder
    config.reload_config()


@functools.cache
def _load_overloads() -> None:
    """Import numba's functions of arrays, as it would for the first function that is compiled, but
    without SciPy's linear algebra, which is half a second of a command's start. There it only
    checks that SciPy is usable, and does so again for a function that multiplies matrices.
    """
    from numba.np import linalg

    check = getattr(linalg, "ensure_blas", None)
    if check is None or find_spec("scipy") is None or "scipy.linalg" in sys.modules:
        return
    linalg.ensure_blas = lambda: None
    try:
        importlib.import_module("numba.np.arraymath")
    finally:
        linalg.ensure_blas = check


def compiled(function: Callable, fastmath: frozenset[str] = frozenset()) -> Any:
    """Compile on the first call; wrappers of the function (a shape check) are removed first.

    Compiled code is kept on disk for the next process, where the folder can be written. Division
    by zero gives infinity or NaN, as in torch, and no error: checks of divisors keep loops from
    being vectorised.
    """
    ensure_cache_folder()
    _load_overloads()
    compile_ = functools.partial(
        numba.njit, nogil=True, fastmath=set(fastmath), error_model="numpy"
    )
    try:
        return compile_(inspect.unwrap(function), cache=True)
    except RuntimeError as error:
        _log.info(f"{function.__name__} is compiled anew in every process: {error}")
        return compile_(inspect.unwrap(function))


def threads_for(pieces: int) -> int:
    """How many of torch's threads so many pieces of work are divided among."""
    return max(1, min(torch.get_num_threads(), pieces))


def in_threads(kernel: Callable, workers: int, arrays: tuple) -> None:
    """Run a compiled function in so many threads: of the arrays, its own number, and theirs.

    Python's own threads are used, not numba's: those may not be called from two threads at once,
    nor after a fork.
    """
    if workers == 1:
        kernel(*arrays, 0, 1)
        return
    pool = _pool(os.getpid(), workers)
    for task in [pool.submit(kernel, *arrays, i, workers) for i in range(workers)]:
        task.result()


@functools.cache
def _pool(process: int, workers: int) -> ThreadPoolExecutor:
    """Threads of this process: a fork inherits the object, but not its threads."""
    return ThreadPoolExecutor(workers, thread_name_prefix="mien-numba")
