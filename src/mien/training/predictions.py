"""The output of `predict` as files: strips of frames from stage 1 and Loki, motion from stage 2.

Axes: b batch, t video frames, m motion, h w space.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter
from safetensors.torch import save_file
from torch import Tensor

from mien.media import save_strip
from mien.media.files import written_whole
from mien.training.previews import strip, window_strip
from mien.types import FaceWindow, FramePair, SpeechClip

FOLDER = "predictions"  # below trainer.default_root_dir


class PredictionWriter(BasePredictionWriter):
    """A file for every batch, named by the process and the batch.

    Stage 1 and Loki: a png of source, driving and drawn frame for every pair. Stage 2: a
    safetensors file with `motion` (b t m), absolute, as the animator takes it.
    """

    def __init__(self) -> None:
        super().__init__("batch")

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remove what an earlier run predicted here."""
        if trainer.is_global_zero:
            for path in (Path(trainer.default_root_dir) / FOLDER).glob("[0-9][0-9]-*"):
                path.unlink()

    def write_on_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        prediction: Tensor,
        batch_indices: Sequence[int] | None,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        """Write one batch; a file appears whole or not at all."""
        folder = Path(trainer.default_root_dir) / FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        name = f"{trainer.global_rank:02d}-{batch_idx:05d}"
        if isinstance(batch, FramePair | FaceWindow):
            rows = len(prediction)
            if isinstance(batch, FramePair):
                picture = strip(batch, prediction, rows)
            else:
                picture = window_strip(batch, prediction, rows)
            with written_whole(folder / f"{name}.png") as unfinished:
                save_strip(unfinished, picture)
        elif isinstance(batch, SpeechClip):
            with written_whole(folder / f"{name}.safetensors") as unfinished:
                save_file({"motion": prediction.contiguous().cpu()}, unfinished)
