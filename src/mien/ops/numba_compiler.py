"""How functions are compiled for the CPU by numba."""

import functools
import inspect
import logging
from collections.abc import Callable
from typing import Any

import numba

_log = logging.getLogger("mien")


def compiled(function: Callable, fastmath: frozenset[str] = frozenset()) -> Any:
    """Compile on the first call; what wraps the function (a shape check) is taken off first.

    Compiled code is kept on disk for the next process, where the folder can be written.
    """
    compile_ = functools.partial(numba.njit, nogil=True, fastmath=set(fastmath))
    try:
        return compile_(inspect.unwrap(function), cache=True)
    except RuntimeError as error:
        _log.info(f"{function.__name__} is compiled anew in every process: {error}")
        return compile_(inspect.unwrap(function))
