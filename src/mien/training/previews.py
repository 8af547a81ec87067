"""Preview pictures while stage 1 or Loki trains: strips of source, driving and drawn frame."""

from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor
from torch.nn.functional import interpolate

from mien.media import save_strip
from mien.types import FaceWindow, FramePair

_OFFSETS = 4.0  # deviations of the expression offset that are white


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
        if isinstance(batch, FramePair):
            with torch.no_grad():
                picture = strip(batch, pl_module(batch).frames, self.rows)
        elif isinstance(batch, FaceWindow):
            with torch.no_grad():
                picture = window_strip(batch, pl_module(batch), self.rows)
        else:
            return
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


def window_strip(
    windows: FaceWindow, drawn: Float[Tensor, "b n 3 h w"], rows: int
) -> Float[Tensor, "3 H W"]:
    """One row a window, of its last frame: reference, driving frame, the map's expression offsets
    (grey: none; dark: off the face), drawn.
    """
    last = windows.maps[:, -1]
    offsets = last[:, 3:6] / _OFFSETS + (last[:, 6:] - 1)
    offsets = interpolate(offsets, windows.frames.shape[-2:])  # maps may be smaller
    columns = torch.stack((windows.reference, windows.frames[:, -1], offsets, drawn[:, -1]))
    shown = columns[:, :rows].clamp(-1, 1)
    return rearrange(shown, "column row c h w -> c (row h) (column w)").cpu()
