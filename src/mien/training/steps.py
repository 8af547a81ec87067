"""Training steps of both stages: gradient accumulation, several processes, seeds."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from lightning import LightningModule, Trainer
from torch import Tensor, nn

from mien.errors import UserError
from mien.kinds import Kind, use_current_names
from mien.training.optimization import (
    OptimizerConfig,
    clip_gradients,
    rate_at,
    refuse_float16,
    set_rate,
)


class SteppedModule(LightningModule):
    """A module with manual optimisation; a step accumulates `optimizer.accumulate` batches.

    A step counts even when its gradients were not finite. Between two steps `part`, the number of
    the batch within its step, is 0. `kind` is that of the net which is trained, if mien has one.
    """

    kind: Kind[Any] | None = None

    def __init__(self, optimizer: OptimizerConfig) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.optimizer_config = optimizer
        self.skipped_steps = self.part = 0

    def on_fit_start(self) -> None:
        """Check that the trainer's settings fit these steps.

        Raises:
            UserError: as `refuse_trainer`.
        """
        self.refuse_trainer(self.trainer)

    def refuse_trainer(self, trainer: Trainer) -> None:
        """Check that the settings of a trainer fit these steps.

        Raises:
            UserError: the precision is float16, or a validation would fall inside a step.
        """
        refuse_float16(str(trainer.precision))
        batches, a_step = trainer.val_check_interval, self.optimizer_config.accumulate
        if isinstance(batches, int) and batches % a_step:
            raise UserError(
                f"trainer.val_check_interval {batches} counts batches and must be a multiple of "
                f"the {a_step} batches of a step (optimizer.accumulate)"
            )

    def refuse_checkpoint(self, checkpoint: dict[str, Any], data: Any) -> None:
        """Check that a run with these data can go on from a training checkpoint.

        Raises:
            UserError: it cannot.
        """

    @property
    def data(self) -> Any:
        """The trainer's data module; None without one."""
        return getattr(self.trainer, "datamodule", None)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store the count of skipped steps."""
        checkpoint["skipped_steps"] = self.skipped_steps

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse another run's; take over names of weights and the count of skipped steps."""
        self.refuse_checkpoint(checkpoint, self.data)
        if self.kind is not None:
            use_current_names(checkpoint, self.kind)
        self.skipped_steps = checkpoint["skipped_steps"]

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Seed torch's global generator (dropout) by the batch, so that resuming is exact."""
        torch.manual_seed(self.batch_seed)

    @property
    def batch_seed(self) -> int:
        """A seed from step, batch within the step, and process; different for each of them."""
        numbers = self.global_step, self.part, self.global_rank
        return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)

    @property
    def ends_step(self) -> bool:
        """Whether this is the last batch of its step."""
        return self.part + 1 == self.optimizer_config.accumulate

    def gather(self, optimizer: Any, net: nn.Module, loss: Tensor) -> Float[Tensor, ""] | None:
        """Accumulate a batch's gradients; after the last batch of a step, clip them, update the
        weights and return the norm.

        Gradients that are not finite change nothing.
        """
        if self.part == 0:
            optimizer.zero_grad()
        self.manual_backward(loss / self.optimizer_config.accumulate)
        if not self.ends_step:
            return None
        set_rate(optimizer, rate_at(self.global_step, self.optimizer_config))
        norm = clip_gradients(net.parameters(), self.optimizer_config.clip_grad)
        optimizer.step()
        return norm

    def end_batch(self, norm: Float[Tensor, ""] | None) -> None:
        """Count the batch within its step; at the end of a step log its norm and skipped steps."""
        self._share_buffers()
        self.part = (self.part + 1) % self.optimizer_config.accumulate
        if norm is not None:
            self.skipped_steps += int(not torch.isfinite(norm))
            skipped = float(self.skipped_steps)
            self.log_dict({"train/gradient_norm": norm, "train/skipped_steps": skipped})

    def _share_buffers(self) -> None:
        """Broadcast the running statistics of the first process: with manual optimisation DDP does
        not do so.
        """
        if self.trainer.world_size > 1:
            for buffer in self.buffers():
                torch.distributed.broadcast(buffer, src=0)
