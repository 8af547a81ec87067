"""Checkpoints that are kept: the best by a validation score, and those of the last validations.

They are in `checkpoints/` of the run folder and hold averaged weights like `last.ckpt`, which alone
is meant for resuming (`mien.training.resume`). They are written after a validation, when scores are
known on all processes and no step is unfinished.
"""

from pathlib import Path

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor

FOLDER = "checkpoints"


class _AfterValidation(ModelCheckpoint):
    """Lightning's ModelCheckpoint in the run folder.

    Lightning stores the list of kept checkpoints in the checkpoint that a run resumes from; those
    written after that, in the validation that followed it, are found in the folder.
    """

    def __init__(self, kind: str, monitor: str, mode: str, count: int) -> None:
        super().__init__(
            filename=f"{kind}-{{step:07d}}",
            monitor=monitor,
            mode=mode,
            save_top_k=count,
            auto_insert_metric_name=False,
            enable_version_counter=False,
        )
        self._kind = kind

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Set the folder."""
        self.dirpath = str(Path(trainer.default_root_dir).resolve() / FOLDER)
        super().setup(trainer, pl_module, stage)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add the folder's checkpoints of steps up to the one that the run resumes from."""
        super().on_train_start(trainer, pl_module)
        if trainer.ckpt_path is None:
            return
        found = self._in_folder(trainer.global_step) if trainer.is_global_zero else {}
        scores = {**self.best_k_models, **trainer.strategy.broadcast(found)}
        if not scores:
            return
        better = sorted(scores, key=lambda path: float(scores[path]), reverse=self.mode == "max")
        kept = better[: self.save_top_k]
        for path in better[self.save_top_k :]:
            trainer.strategy.remove_checkpoint(path)
        self.best_k_models = {path: scores[path] for path in kept}
        self.best_model_path, self.kth_best_model_path = kept[0], kept[-1]
        self.best_model_score, self.kth_value = scores[kept[0]], scores[kept[-1]]

    def _in_folder(self, until: int) -> dict[str, Tensor]:
        """The scores of this callback's checkpoints of steps up to that one."""
        found: dict[str, Tensor] = {}
        for path in Path(str(self.dirpath)).glob(f"{self._kind}-*.ckpt"):
            saved = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
            state = saved["callbacks"].get(self.state_key)
            if state is not None and saved["global_step"] <= until:
                found[str(path)] = state["current_score"]
        return found


class BestCheckpoints(_AfterValidation):
    """Keeps the checkpoints of the best validations, as best-STEP.ckpt.

    Args:
        monitor: score that validation logs, such as val/psnr.
        mode: `max` if more is better, else `min`.
        count: how many are kept.
    """

    def __init__(self, monitor: str, mode: str, count: int = 1) -> None:
        super().__init__("best", monitor, mode, count)


class LastCheckpoints(_AfterValidation):
    """Keeps the checkpoints of the last validations, as step-STEP.ckpt.

    Args:
        count: how many are kept.
    """

    def __init__(self, count: int = 3) -> None:
        super().__init__("step", "step", "max", count)
