"""Steps of several batches equal steps of one larger batch."""

import pytest
import torch
from lightning import Trainer
from torch import Tensor, nn
from torch.optim import SGD
from torch.utils.data import DataLoader, TensorDataset

from mien.errors import UserError
from mien.training.optimization import OptimizerConfig
from mien.training.steps import SteppedModule


class Line(SteppedModule):
    """Fits a line by SGD."""

    def __init__(self, accumulate: int) -> None:
        super().__init__(OptimizerConfig(0.1, warmup_steps=0, clip_grad=0.5, accumulate=accumulate))
        torch.manual_seed(0)
        self.net = nn.Linear(3, 1)
        self.seeds: list[int] = []

    def training_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.seeds.append(self.batch_seed)
        x, y = batch
        norm = self.gather(self.optimizers(), self.net, (self.net(x) - y).square().mean())
        self.end_batch(norm)

    def configure_optimizers(self) -> SGD:
        return SGD(self.net.parameters(), 0.1)


def fitted(accumulate: int, batch_size: int, steps: int) -> Line:
    draw = torch.Generator().manual_seed(1)
    data = TensorDataset(torch.randn(48, 3, generator=draw), torch.randn(48, 1, generator=draw))
    line = Line(accumulate)
    trainer = Trainer(
        max_steps=steps,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        accelerator="cpu",
    )
    trainer.fit(line, DataLoader(data, batch_size=batch_size))
    assert trainer.global_step == steps and line.part == 0
    return line


def test_four_batches_of_two_are_one_of_eight():
    whole, parts = fitted(1, 8, 5), fitted(4, 2, 5)
    torch.testing.assert_close(whole.net.weight, parts.net.weight)
    torch.testing.assert_close(whole.net.bias, parts.net.bias)
    assert not torch.equal(whole.net.weight, Line(1).net.weight)


def test_no_two_batches_draw_alike():
    assert len(set(fitted(4, 2, 5).seeds)) == 20


def test_a_step_takes_at_least_one_batch():
    with pytest.raises(ValueError, match="accumulate must be at least 1, not 0"):
        OptimizerConfig(accumulate=0)


def test_a_validation_within_a_step_is_refused():
    trainer = Trainer(
        max_steps=1,
        val_check_interval=3,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        accelerator="cpu",
    )
    data = DataLoader(TensorDataset(torch.zeros(12, 3), torch.zeros(12, 1)), batch_size=2)
    with pytest.raises(UserError, match="val_check_interval 3 counts batches .* of the 2 batches"):
        trainer.fit(Line(2), data)
