"""Resuming: a run can be stopped at any time and continues as if it had not been."""

import signal
import threading
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.utilities import rank_zero_info

from mien.command_line import INTERRUPTED, TERMINATED, Stopped
from mien.errors import UserError


class ResumePoint(Checkpoint):
    """Saves `last.ckpt` to the run folder: periodically, before validation, at the end, on a stop.

    Always saved between two steps, never inside one nor while the averaged weights replace the
    trained ones, so that resuming is exact. Ctrl-C and SIGTERM let the step finish first; the exit
    status of the command is then what shells expect.

    Args:
        every: steps between two saves.
    """

    def __init__(self, every: int = 250) -> None:
        self.every = every
        self._asked_to_stop = self._stopping = False
        self._status = INTERRUPTED
        self._handlers: dict[signal.Signals, Any] = {}

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A new run does not overwrite an earlier one.

        Raises:
            UserError: as `refuse_earlier_run`.
        """
        self.refuse_earlier_run(trainer, trainer.ckpt_path)

    def refuse_earlier_run(self, trainer: Trainer, begun: str | Path | None) -> None:
        """Check that the run, resumed from the checkpoint `begun`, overwrites no other.

        Raises:
            UserError: the run folder has a `last.ckpt` that this run does not resume from.
        """
        path = self.path(trainer)
        resumed = begun and Path(begun).is_file() and path.samefile(begun)
        if path.exists() and not resumed:
            raise UserError(
                f"{path} is there from an earlier run: go on with --ckpt_path {path}, or begin in "
                "another folder with --trainer.default_root_dir"
            )

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Install handlers for Ctrl-C and SIGTERM."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._handlers[number] = signal.signal(number, self._ask_to_stop)

    def _ask_to_stop(self, number: int, frame: Any) -> None:
        self._status = TERMINATED if number == signal.SIGTERM else INTERRUPTED
        if self._asked_to_stop:  # asked twice: do not wait for the step
            raise Stopped(self._status)
        self._asked_to_stop = True

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save when it is time (Lightning runs checkpoint callbacks last, after the averaging)."""
        if getattr(pl_module, "part", 0):  # in the middle of a step of several batches
            return
        step = trainer.global_step
        # If one process was asked to stop, all must: saving is a collective operation.
        self._stopping = trainer.strategy.reduce_boolean_decision(self._asked_to_stop, all=False)
        due = step % self.every == 0 or step == trainer.max_steps
        # Lightning counts batches between validations; a step may take several batches.
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
        """Stop without finishing a validation; the state before it is saved already."""
        if trainer.world_size == 1:  # several processes may have different numbers of batches
            self._stopping = self._asked_to_stop
            self._stop_if_asked(trainer)

    def _stop_if_asked(self, trainer: Trainer) -> None:
        if self._stopping:
            step, path = trainer.global_step, self.path(trainer)
            rank_zero_info(f"stopped after step {step}; go on with --ckpt_path {path}")
            raise Stopped(self._status)

    def path(self, trainer: Trainer) -> Path:
        """The `last.ckpt` of this run."""
        return Path(trainer.default_root_dir) / "last.ckpt"

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Restore the signal handlers."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers.clear()
