"""Device and precision of the nets: the options --device and --precision of every command.

torch is imported late, so that a command line can be read without it.
"""

import ctypes
import functools
import os
import re
import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib.util import find_spec
from threading import Barrier, Lock
from typing import TYPE_CHECKING

from mien.errors import EXTRAS, UserError

if TYPE_CHECKING:
    from torch import device as Device

AUTO, CPU, CUDA = "auto", "cpu", "cuda"
FULL, MIXED = "32-true", "bf16-mixed"  # Lightning's names
PRECISIONS = FULL, MIXED
# What may render (`mien.engines.RENDERING`), and whether a package of that name must be installed.
ENGINES = {"openvino": True, "torch": False, "onnxruntime": True, "compile": False}


def add_device_option(parser: ArgumentParser) -> None:
    """Add --device; `choose_device` takes its value."""
    parser.add_argument(
        "--device",
        default=AUTO,
        help="cpu, cuda or cuda:N (default: cuda where torch sees a GPU, else cpu)",
    )


def add_device_options(parser: ArgumentParser) -> None:
    """Add --device and --precision; `choose_device` and `autocast` take their values."""
    add_device_option(parser)
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        default=FULL,
        help=f"of the nets (default {FULL}; {MIXED} computes most of them in bfloat16)",
    )


def add_engine_options(parser: ArgumentParser) -> None:
    """Add --device, --precision and --engine of commands that render frames; `mien.engines` takes
    the last one.
    """
    add_device_option(parser)
    parser.add_argument(
        "--precision",
        choices=(AUTO, *PRECISIONS),
        default=AUTO,
        help=f"of the nets (default: {FULL}, frames in bfloat16 where the engine is fast in it)",
    )
    parser.add_argument(
        "--engine",
        type=engine_name,
        default=AUTO,
        help=f"what renders: {', '.join(ENGINES)} (default: the fastest that works here; mien "
        "doctor says which)",
    )


def engine_name(text: str) -> str:
    """Argument type: the name of an engine that is installed, or auto. Whether it works with a
    certain net is known when that is loaded.

    Raises:
        UserError: there is no such engine, or its package is not installed.
    """
    if text != AUTO and text not in ENGINES:
        raise UserError(f"the engine {text!r} is unknown: give {AUTO} or {', '.join(ENGINES)}")
    if ENGINES.get(text) and find_spec(text) is None:
        raise UserError(
            f'the engine {text} is not installed: pip install "mien[{EXTRAS[text]}]", or leave out '
            "--engine"
        )
    return text


def choose_device(text: str = AUTO) -> "Device":
    """The device of a name: cpu, cuda, cuda:N, or auto, which is cuda where torch sees a GPU.

    Raises:
        UserError: no such device exists, or torch cannot use it on this machine.
    """
    import torch

    if text == AUTO:
        text = CUDA if torch.cuda.is_available() else CPU
    if text == CPU:
        return torch.device(CPU)
    found = re.fullmatch(r"cuda(?::(\d+))?", text)
    if found is None:
        raise UserError(f"the device {text!r} is unknown: give cpu, cuda, cuda:N or auto")
    if not torch.cuda.is_available():
        raise UserError(
            f"the device {text} cannot be used, torch {torch.__version__} sees no GPU: "
            "install a CUDA build of torch, or give --device cpu"
        )
    count, index = torch.cuda.device_count(), int(found[1] or torch.cuda.current_device())
    if index >= count:
        raise UserError(
            f"the device {text} does not exist, torch sees {count} GPU{'s' * (count > 1)}: "
            f"give one of {', '.join(f'cuda:{number}' for number in range(count))}"
        )
    return torch.device(CUDA, index)


def autocast(device: "Device", precision: str = FULL) -> AbstractContextManager[object]:
    """A context in which nets on the device compute in this precision: 32-true (auto is the same)
    or bf16-mixed.

    What `mien.ops.precision` guards (positions, the motion space, losses) stays in float32. The
    context belongs around a loop, never around the `yield` of a generator, which would leak it.

    Raises:
        UserError: the precision is unknown, or the GPU has no bfloat16.
    """
    import torch

    if precision in (FULL, AUTO):
        return nullcontext()
    if precision != MIXED:
        raise UserError(f"the precision {precision!r} is unknown: give {' or '.join(PRECISIONS)}")
    if device.type == CUDA:
        with torch.cuda.device(device):
            if not torch.cuda.is_bf16_supported(including_emulation=False):
                name = torch.cuda.get_device_name()
                raise UserError(f"{name} has no bfloat16: give --precision {FULL}")
    return torch.autocast(device.type, torch.bfloat16)


def worker_threads(count: int, each: int | None = None) -> ThreadPoolExecutor:
    """Threads that compute side by side, in each of which torch uses `each` threads (default: the
    caller's, divided among them). They are made once for this process; nobody shuts them down.

    To make them changes for a moment the number that threads get which use torch for the first
    time: best done early, by the thread that loads the nets (`prepare_cpu`).
    """
    import torch

    with _making_workers:
        each = each or max(1, torch.get_num_threads() // count)
        return _workers(os.getpid(), count, each)


def prepare_cpu(chunks_at_once: int) -> None:
    """What a session on the CPU needs once: threads that render, one that makes motion, and freed
    memory that is kept.
    """
    keep_freed_memory()
    worker_threads(1, each=1)
    if chunks_at_once > 1:
        worker_threads(chunks_at_once)


_making_workers = Lock()


@functools.cache
def _workers(process: int, count: int, each: int) -> ThreadPoolExecutor:
    """Those of a process: a fork inherits the object, but not its threads."""
    import torch

    # torch keeps the number for the thread that sets it and for those that begin later.
    threads, ready = torch.get_num_threads(), Barrier(count + 1)

    def begin() -> None:
        torch.get_num_threads()  # at its first use a thread takes the process's number
        torch.set_num_threads(each)
        ready.wait()

    pool = ThreadPoolExecutor(count, thread_name_prefix="mien-worker")
    try:
        for _ in range(count):
            pool.submit(begin)  # each in a thread of its own, since it waits for the others
        ready.wait()
    except BaseException:
        ready.abort()
        pool.shutdown(wait=False)
        raise
    finally:
        torch.set_num_threads(threads)
    return pool


@functools.cache
def cpu_has_bfloat16() -> bool:
    """Whether this processor multiplies in bfloat16 (AVX512_BF16), and torch uses it. Others that
    do are not asked for: nobody has measured them, and emulation is slower than float32.
    """
    import torch

    avx = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return bool(torch.backends.mkldnn.is_available() and avx())


@contextmanager
def inference(device: "Device", precision: str = FULL) -> Iterator[None]:
    """A context without gradients, in this precision (`autocast`)."""
    import torch

    with torch.inference_mode(), autocast(device, precision):
        yield


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # parameters of glibc's mallopt
_LARGEST_PIECE, _MOST_KEPT = 2**25, 2**31 - 1  # bytes; glibc takes no larger ones


@functools.cache
def keep_freed_memory() -> None:
    """Let this process keep the memory that tensors free, for the next ones. By default glibc
    returns large pieces to the system, which zeroes them anew: a tenth of the time of rendering.

    Has no effect with another C library or allocator.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_PIECE)
        mallopt(_M_TRIM_THRESHOLD, _MOST_KEPT)


def synchronize(device: "Device | None" = None) -> None:
    """Wait until the device has finished all queued work, as is needed before reading a clock.

    Without a device: the current GPU, if this process uses one. A CPU has no queue.
    """
    import torch

    used = torch.cuda.is_initialized() if device is None else device.type == CUDA
    if used:
        torch.cuda.synchronize(device)
