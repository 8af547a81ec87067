"""The best checkpoint and the last ones stay, beside the one to go on from."""

from pathlib import Path

import pytest
import torch
from lightning import Trainer
from torch import Tensor, nn
from torch.optim import SGD
from torch.utils.data import DataLoader, TensorDataset

from mien.training.averaging import WarmedUpAverage
from mien.training.checkpoints import BestCheckpoints, LastCheckpoints
from mien.training.optimization import OptimizerConfig
from mien.training.resume import ResumePoint
from mien.training.steps import SteppedModule

SCORES = [1.0, 5.0, 2.0, 3.0, 4.0]


class Scored(SteppedModule):
    """Fits a line; its validations score what SCORES says."""

    def __init__(self) -> None:
        super().__init__(OptimizerConfig(0.1, warmup_steps=0, accumulate=2))
        torch.manual_seed(0)
        self.net = nn.Linear(3, 1)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> None:
        x, y = batch
        norm = self.gather(self.optimizers(), self.net, (self.net(x) - y).square().mean())
        self.end_batch(norm)

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.log("val/psnr", SCORES[self.global_step // 3 - 1], batch_size=len(batch[0]))

    def configure_optimizers(self) -> SGD:
        return SGD(self.net.parameters(), 0.1)


def fit(folder: Path, steps: int, resumed: Path | None = None) -> Scored:
    draw = torch.Generator().manual_seed(1)
    data = TensorDataset(torch.randn(80, 3, generator=draw), torch.randn(80, 1, generator=draw))
    loader = DataLoader(data, batch_size=2)
    kept = [ResumePoint(100), BestCheckpoints("val/psnr", "max"), LastCheckpoints(3)]
    trainer = Trainer(
        max_steps=steps,
        default_root_dir=folder,
        val_check_interval=6,
        num_sanity_val_steps=0,
        check_val_every_n_epoch=None,
        callbacks=[WarmedUpAverage(), *kept],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        accelerator="cpu",
    )
    scored = Scored()
    trainer.fit(scored, loader, loader, ckpt_path=resumed)
    return scored


def names(folder: Path) -> set[str]:
    return {path.name for path in (folder / "checkpoints").iterdir()}


def test_the_best_and_the_last_three_stay(tmp_path: Path):
    fit(tmp_path, 15)
    assert names(tmp_path) == {
        "best-0000006.ckpt", "step-0000009.ckpt", "step-0000012.ckpt", "step-0000015.ckpt",
    }  # fmt: skip
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == 15


def test_they_hold_averaged_weights(tmp_path: Path):
    fit(tmp_path, 3)
    best = torch.load(tmp_path / "checkpoints" / "best-0000003.ckpt", weights_only=True)
    last = torch.load(tmp_path / "last.ckpt", weights_only=True)
    averaged, trained = (best[part]["net.weight"] for part in ("state_dict", "current_model_state"))
    assert not torch.equal(averaged, trained)
    assert torch.equal(averaged, last["state_dict"]["net.weight"])


@pytest.mark.parametrize("stopped", [3, 6, 9, 12])
def test_a_resumed_run_remembers_what_it_keeps(tmp_path: Path, stopped: int):
    """last.ckpt is written before a validation and knows nothing of what that one wrote."""
    fit(tmp_path, stopped)
    fit(tmp_path, 15, tmp_path / "last.ckpt")
    assert names(tmp_path) == {
        "best-0000006.ckpt", "step-0000009.ckpt", "step-0000012.ckpt", "step-0000015.ckpt",
    }  # fmt: skip
