"""A run that can be stopped at any time and goes on as if it had not been."""

import signal
import threading
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.utilities import rank_zero_info

from mien.errors import UserError


class ResumePoint(Checkpoint):
    """Keeps `last.ckpt` in the run folder: now and then, before validation, at the end, on a stop.

    Always saved between two steps, never inside one nor while the averaged weights stand in for the
    trained ones, so that going on from it is exact. Ctrl-C and SIGTERM let the step finish first.

    Args:
        every: steps between two saves.
    """

    def __init__(self, every: int = 250) -> None:
        self.every = every
        self._asked_to_stop = self._stopping = False
        self._handlers: dict[signal.Signals, Any] = {}

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A new run does not write over an earlier one.

        Raises:
            UserError: the run folder holds a resume point that this run does not go on from.
        """
        path, begun = self.path(trainer), trainer.ckpt_path
        if path.exists() and not (begun and path.samefile(begun)):
            raise UserError(
                f"{path} is there from an earlier run: go on with --ckpt_path {path}, or begin in "
                "another folder with --trainer.default_root_dir"
            )

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listen for Ctrl-C and SIGTERM."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._handlers[number] = signal.signal(number, self._ask_to_stop)

    def _ask_to_stop(self, number: int, frame: Any) -> None:
        if self._asked_to_stop:  # asked twice: do not wait for the step
            raise KeyboardInterrupt
        self._asked_to_stop = True

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save when it is time (Lightning runs checkpoint callbacks last, behind the averaging)."""
        if getattr(pl_module, "part", 0):  # in the middle of a step of several batches
            return
        step = trainer.global_step
        # What one process was asked, all must do: saving waits for every one of them.
        self._stopping = trainer.strategy.reduce_boolean_decision(self._asked_to_stop, all=False)
        due = step % self.every == 0 or step == trainer.max_steps
        # Lightning counts batches between validations, of which a step may take several.
        batches = step * getattr(getattr(pl_module, "optimizer_config", None), "accumulate", 1)
        before_validation = isinstance(trainer.val_check_batch, int) and (
            batches % trainer.val_check_batch == 0
        )
        if due or before_validation or self._stopping:
            trainer.save_checkpoint(self.path(trainer), weights_only=False)
        self._stop_if_asked(trainer)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """A validation is not finished first; what came before it is saved already."""
        if trainer.world_size == 1:  # several may have unlike numbers of batches
            self._stopping = self._asked_to_stop
            self._stop_if_asked(trainer)

    def _stop_if_asked(self, trainer: Trainer) -> None:
        if self._stopping:
            step, path = trainer.global_step, self.path(trainer)
            rank_zero_info(f"stopped after step {step}; go on with --ckpt_path {path}")
            raise KeyboardInterrupt

    def path(self, trainer: Trainer) -> Path:
        """Where the resume point of this run lies."""
        return Path(trainer.default_root_dir) / "last.ckpt"

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Leave the signals as they were."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers.clear()
