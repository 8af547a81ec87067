"""The report of a run: time per part, machine, and software."""

import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import torch

from mien.devices import synchronize
from mien.ops.selective_scan import SELECTIVE_SCAN

Item = TypeVar("Item")


@dataclass
class Stopwatch:
    """Seconds spent in each part of a run, also where parts are nested generators.

    The time of a part that runs inside another is subtracted from the outer one's, so the parts add
    up. The clock is read after `device` has finished its work, since a GPU runs asynchronously
    (default: the current GPU, if this process uses one).
    """

    seconds: dict[str, float] = field(default_factory=dict)
    device: torch.device | None = None
    _running: list[str] = field(default_factory=list)
    _since: float = 0.0

    @contextmanager
    def measure(self, part: str) -> Iterator[None]:
        """Add the time of a block to a part."""
        self._settle()
        self._running.append(part)
        self.seconds.setdefault(part, 0.0)
        try:
            yield
        finally:
            self._settle()
            self._running.pop()

    def _settle(self) -> None:
        synchronize(self.device)
        now = time.perf_counter()
        if self._running:
            self.seconds[self._running[-1]] += now - self._since
        self._since = now

    def measure_items(self, part: str, items: Iterator[Item]) -> Iterator[Item]:
        """Yield the items, adding the time that making each one took."""
        while True:
            with self.measure(part):
                try:
                    item = next(items)
                except StopIteration:
                    return
            yield item


def machine(device: torch.device | None = None) -> str:
    """Description of the machine: processor, cores, and the GPU if one is used (default: the
    current one if torch sees any).
    """
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
        models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
        name = models[0] if models else name
    accelerator = f", {torch.cuda.get_device_name(device)}" if _on_gpu(device) else ""
    return f"{name}, {usable_cores()} cores{accelerator}"


def _on_gpu(device: torch.device | None) -> bool:
    return torch.cuda.is_available() if device is None else device.type == "cuda"


def usable_cores() -> int:
    """CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def best_time(work: Callable[[], object], device: torch.device, runs: int = 3) -> float:
    """Seconds of the fastest of some runs, each between two synchronisations of the device."""
    seconds = []
    for _ in range(runs):
        synchronize(device)
        begin = time.perf_counter()
        work()
        synchronize(device)
        seconds.append(time.perf_counter() - begin)
    return min(seconds)


def gflop(work: Callable[[], object]) -> float:
    """Floating-point operations of some work, in 1e9; custom ops (the scan) are not counted."""
    from torch.utils.flop_counter import FlopCounterMode  # imported late: it brings triton

    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops() / 1e9


def back_ends(device: torch.device | None = None) -> str:
    """Software in use on a device (default: the current GPU if torch sees any)."""
    scan, _ = SELECTIVE_SCAN.choose("cuda" if _on_gpu(device) else "cpu", lambda name: None)
    return f"torch {torch.__version__}, {torch.get_num_threads()} threads, selective scan: {scan}"


@dataclass(frozen=True)
class Report:
    """One finished video: `seconds` of video, `work` seconds by part, `notes` to the user, and how
    it was sampled, where it was.
    """

    path: Path
    seconds: float
    frames: int
    work: dict[str, float]
    seed: int | None
    machine: str
    back_ends: str
    notes: tuple[str, ...] = ()
    sampling: str | None = None

    @property
    def work_per_second(self) -> float:
        """Seconds of work per second of video."""
        return sum(self.work.values()) / self.seconds

    def __str__(self) -> str:
        parts = ", ".join(f"{part} {seconds:.1f}" for part, seconds in self.work.items())
        lines = [
            *self.notes,
            f"wrote     {self.path.resolve()}",
            f"length    {self.seconds:.2f} s, {self.frames} frames",
            f"work      {self.work_per_second:.2f} s per second of video ({parts})",
            f"machine   {self.machine}",
            f"back ends {self.back_ends}",
        ]
        if self.sampling is not None:
            lines.append(f"sampling  {self.sampling}, seed {self.seed}")
        return "\n".join(lines)
