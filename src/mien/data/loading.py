"""Data loaders and their samplers, for one process or several."""

import itertools
from collections.abc import Callable, Iterator

import cv2
from lightning import Trainer
from torch.utils.data import DataLoader, Dataset, DistributedSampler, Sampler


class SampleNumbers(Sampler[int]):
    """0, 1, 2, ... without end, from the first sample that this run has not seen.

    Process p of n takes every n-th from start + p, so that the processes share all samples without
    overlap.
    """

    def __init__(self, start: int, process: int = 0, processes: int = 1) -> None:
        self.start, self.process, self.processes = start, process, processes

    def __iter__(self) -> Iterator[int]:
        return itertools.count(self.start + self.process, self.processes)


def stop_opencv_threads() -> None:
    """End the threads of OpenCV in this process, before workers are forked from it: a child has the
    pool but not its threads, and crashes or waits for ever where it uses or ends them.
    """
    cv2.setNumThreads(1)


def endless(
    samples: Dataset,
    batch_size: int,
    workers: int,
    trainer: Trainer,
    collate: Callable,
    accumulate: int,
    start_method: str | None = None,
) -> DataLoader:
    """An unlimited loader of training samples, starting at the trainer's global step: a resumed run
    repeats none. A step takes `accumulate` batches. `start_method` of the workers: fork, spawn,
    forkserver, or Python's choice.
    """
    stop_opencv_threads()
    a_step = batch_size * accumulate * trainer.world_size
    start = trainer.global_step * a_step
    return DataLoader(
        samples,
        batch_size=batch_size,
        sampler=SampleNumbers(start, trainer.global_rank, trainer.world_size),
        collate_fn=collate,
        num_workers=workers,
        multiprocessing_context=start_method if workers else None,
        pin_memory=trainer.strategy.root_device.type == "cuda",
    )


def once(
    samples: Dataset,
    batch_size: int,
    workers: int,
    trainer: Trainer,
    collate: Callable,
    start_method: str | None = None,
) -> DataLoader:
    """A loader of all samples in order; processes share them (some twice, for equal shares)."""
    stop_opencv_threads()
    several = trainer.world_size > 1
    sampler = (
        DistributedSampler(samples, trainer.world_size, trainer.global_rank, shuffle=False)
        if several
        else None
    )
    return DataLoader(
        samples,
        batch_size=batch_size,
        sampler=sampler,
        collate_fn=collate,
        num_workers=workers,
        multiprocessing_context=start_method if workers else None,
        pin_memory=trainer.strategy.root_device.type == "cuda",
    )
