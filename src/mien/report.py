"""What a run did and what it cost: where the seconds went, on what machine, with which back ends."""

import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import torch

Item = TypeVar("Item")


@dataclass
class Stopwatch:
    """Seconds spent in each part of a run, also where parts are generators that feed each other."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def measure(self, part: str) -> Iterator[None]:
        """Add the time of a block to a part."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[part] = self.seconds.get(part, 0.0) + time.perf_counter() - begin

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
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    accelerator = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{name}, {cores} cores{accelerator}"


def back_ends() -> str:
    """Which software did the work."""
    return f"torch {torch.__version__}, {torch.get_num_threads()} threads, selective scan: torch"


@dataclass(frozen=True)
class Report:
    """One finished video: `seconds` of video, `work` seconds by part, and whatever the user should know."""

    path: Path
    seconds: float
    frames: int
    work: dict[str, float]
    seed: int
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
            f"seed      {self.seed}",
        ]
        return "\n".join(lines)
