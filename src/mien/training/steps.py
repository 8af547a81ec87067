"""What both stages do alike around their losses: steps of several batches, on several processes."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from lightning import LightningModule
from torch import Tensor, nn

from mien.errors import UserError
from mien.training.optimization import (
    OptimizerConfig,
    clip_gradients,
    rate_at,
    refuse_float16,
    set_rate,
)


class SteppedModule(LightningModule):
    """A module that makes its steps by hand; a step takes `optimizer.accumulate` batches.

    A step counts even when its gradients could not be used. Between two steps `part`, the number of
    the batch within its step, is 0.
    """

    def __init__(self, optimizer: OptimizerConfig) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.optimizer_config = optimizer
        self.skipped_steps = self.part = 0

    def on_fit_start(self) -> None:
        """Refuse what these steps cannot do.

        Raises:
            UserError: gradients would be too narrow, or a validation fall into a step.
        """
        refuse_float16(str(self.trainer.precision))
        batches, a_step = self.trainer.val_check_interval, self.optimizer_config.accumulate
        if isinstance(batches, int) and batches % a_step:
            raise UserError(
                f"trainer.val_check_interval {batches} counts batches and must be a multiple of "
                f"the {a_step} batches of a step (optimizer.accumulate)"
            )

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Seed torch's own numbers (dropout) by the batch: a resumed run draws alike."""
        torch.manual_seed(self.batch_seed)

    @property
    def batch_seed(self) -> int:
        """A function of step, batch within the step, and process: no two draw alike."""
        numbers = self.global_step, self.part, self.global_rank
        return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)

    @property
    def ends_step(self) -> bool:
        """Is this the last batch of its step?"""
        return self.part + 1 == self.optimizer_config.accumulate

    def gather(self, optimizer: Any, net: nn.Module, loss: Tensor) -> Float[Tensor, ""] | None:
        """Add a batch's gradients; with the last batch of a step, make it. Returns their norm then.

        Gradients that are not finite change nothing.
        """
        if self.part == 0:
            optimizer.zero_grad()
        self.manual_backward(loss / self.optimizer_config.accumulate)
        if not self.ends_step:
            return None
        set_rate(optimizer, rate_at(self.global_step, self.optimizer_config))
        norm = clip_gradients(net.parameters(), self.optimizer_config.clip)
        optimizer.step()
        return norm

    def end_batch(self, norm: Float[Tensor, ""] | None) -> None:
        """Go on to the next batch; count and log the step, if one was made."""
        self._share_buffers()
        self.part = (self.part + 1) % self.optimizer_config.accumulate
        if norm is not None:
            self.skipped_steps += int(not torch.isfinite(norm))
            skipped = float(self.skipped_steps)
            self.log_dict({"train/gradient_norm": norm, "train/skipped_steps": skipped})

    def _share_buffers(self) -> None:
        """Let all processes go on with the running statistics of the first: DDP does not, where
        steps are made by hand.
        """
        if self.trainer.world_size > 1:
            for buffer in self.buffers():
                torch.distributed.broadcast(buffer, src=0)
