"""A callback for runs in processes of their own: what each of them saw and came to."""

import hashlib
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer

from mien.types import FramePair


class Probe(Callback):
    """Writes what this process was given, and its weights, into a folder after each batch.

    Args:
        folder: where `<process>.pt` goes.
    """

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        self.samples: list[str] = []
        self.draws: list[float] = []

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Note the samples, and a number that dropout would draw."""
        pictures = batch.driving if isinstance(batch, FramePair) else batch.motion
        self.samples += [hashlib.sha256(p.numpy().tobytes()).hexdigest() for p in pictures]

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Note where the random numbers stand, write it all down, and say that a step is done."""
        self.draws.append(float(torch.rand(())))
        self._write(trainer, pl_module)
        if trainer.is_global_zero:
            print(f"step {trainer.global_step} done", flush=True)

    def _write(self, trainer: Trainer, pl_module: LightningModule) -> None:
        weights = {name: v.detach().clone() for name, v in pl_module.state_dict().items()}
        found = {"samples": self.samples, "draws": self.draws, "weights": weights}
        self.folder.mkdir(parents=True, exist_ok=True)
        torch.save(found, self.folder / f"{trainer.global_rank}.pt")
