"""What a run did and what it cost: where the seconds went, on what machine, by which software."""

import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import torch

from mien.ops.selective_scan import SELECTIVE_SCAN

Item = TypeVar("Item")


@dataclass
class Stopwatch:
    """Seconds spent in each part of a run, also where parts are generators that feed each other.

    A part that runs inside another is taken out of the outer one's time, so the parts add up.
    """

    seconds: dict[str, float] = field(default_factory=dict)
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
        now = time.perf_counter()
        if self._running:
            self.seconds[self._running[-1]] += now - self._since
        self._since = now

    def measure_items(self, part: str, items: Iterator[Item]) -> Iterator[Item]:
        """Pass items on, adding the time that making each one took."""
        while True:
            with self.measure(part):
                try:
                    item = next(items)
                except StopIteration:
                    return
            yield item


def machine() -> str:
    """The machine in words: processor, cores, and the accelerator if torch sees one."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
        models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
        name = models[0] if models else name
    accelerator = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{name}, {usable_cores()} cores{accelerator}"


def usable_cores() -> int:
    """Those that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def gflop(work: Callable[[], object]) -> float:
    """What some work calculates, in 1e9 operations; custom ones (the scan) are not counted."""
    from torch.utils.flop_counter import FlopCounterMode  # imported late: it brings triton

    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops() / 1e9


def back_ends() -> str:
    """Which software did the work."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    scan, _ = SELECTIVE_SCAN.choose(device, lambda name: None)
    return f"torch {torch.__version__}, {torch.get_num_threads()} threads, selective scan: {scan}"


@dataclass(frozen=True)
class Report:
    """One finished video: `seconds` of video, `work` seconds by part, and `notes` to the user."""

    path: Path
    seconds: float
    frames: int
    work: dict[str, float]
    seed: int | None
    machine: str
    back_ends: str
    notes: tuple[str, ...] = ()

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
        if self.seed is not None:
            lines.append(f"seed      {self.seed}")
        return "\n".join(lines)
