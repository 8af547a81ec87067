"""Preview pictures while stage 1 trains: strips of source, driving frame and rendered frame."""

from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from mien.media import save_strip
from mien.types import FramePair


class PreviewStrips(Callback):
    """At every validation, a strip of the first pairs goes into the run folder and to TensorBoard.

    Args:
        rows: pairs in a strip, one below the other.
    """

    def __init__(self, rows: int = 4) -> None:
        self.rows = rows

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Draw with the averaged weights, which are in place during validation."""
        if batch_idx or trainer.sanity_checking or not trainer.is_global_zero:
            return
        if not isinstance(batch, FramePair):
            return
        with torch.no_grad():
            drawn = pl_module(batch).frames
        picture = strip(batch, drawn, self.rows)
        folder = Path(trainer.default_root_dir) / "previews"
        folder.mkdir(parents=True, exist_ok=True)
        save_strip(folder / f"{trainer.global_step:07d}.png", picture)
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_image("val/pairs", (picture + 1) / 2, trainer.global_step)


def strip(pairs: FramePair, drawn: Float[Tensor, "b 3 h w"], rows: int) -> Float[Tensor, "3 H W"]:
    """One row a pair: source, driving, drawn."""
    columns = torch.stack((pairs.source, pairs.driving, drawn.clamp(-1, 1)))[:, :rows]
    return rearrange(columns, "column row c h w -> c (row h) (column w)").cpu()
