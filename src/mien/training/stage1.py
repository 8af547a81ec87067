"""Stage 1: the animator learns to redraw one frame of a clip from another (the paper's base model)."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule
from torch import Tensor
from torch.optim import Adam, Optimizer

from mien.checkpoint import ANIMATOR, fingerprint, part_of, read_weights
from mien.errors import UserError
from mien.metrics import psnr, weighted_l1
from mien.portrait.animator import Animator, AnimatorConfig, Rendering
from mien.training.losses import LossConfig, field_loss, pixel_loss, threshold_mask_loss
from mien.training.optimization import OptimizerConfig, rate_at, set_rate, tame_gradients
from mien.types import FramePair


class ReconstructionStage(LightningModule):
    """Trains an Animator on pairs of frames.

    Args:
        animator: the numbers of the net.
        loss: what it is taught by.
        optimizer: how fast.
        initial_weights: an earlier run to start from, which may be of another image_size
            (128 first, then 256).
    """

    def __init__(
        self,
        animator: AnimatorConfig,
        loss: LossConfig,
        optimizer: OptimizerConfig,
        initial_weights: Path | None = None,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False  # two optimisers, of which one steps alone at first
        self.loss_config, self.optimizer_config = loss, optimizer
        self.animator = Animator(animator)
        if initial_weights is not None:
            self._start_from(initial_weights)
        self.skipped_steps = 0

    @property
    def image_size(self) -> int:
        """Side of the frames that the data has to bring."""
        return self.animator.config.image_size

    def _start_from(self, path: Path) -> None:
        weights = read_weights(path, ANIMATOR)
        try:
            self.animator.load_state_dict(weights.state)
        except RuntimeError as error:
            reason = " ".join(str(error).split("\n\t", 1)[-1].split())
            raise UserError(f"initial_weights {path} do not fit this animator: {reason}") from error

    def forward(self, pair: FramePair) -> Rendering:
        """Redraw each source with its driving frame's motion."""
        appearance = self.animator.encode_appearance(pair.source)
        source_motion = self.animator.encode_motion(pair.motion_view_source)
        motion = self.animator.encode_motion(pair.motion_view_driving)
        return self.animator.draw(appearance, source_motion, motion[:, None])

    def training_step(self, batch: FramePair, batch_idx: int) -> None:
        """One step of the animator; it counts even when its gradients could not be used."""
        # Dropout draws from torch's global numbers: with the step as seed a resumed run draws alike.
        torch.manual_seed(self.global_step)
        rendering = self(batch)
        parts = self._parts(rendering, batch)
        loss = torch.stack(list(parts.values())).sum()
        norm = self._step_animator(loss)

        self.log("train/loss", loss, prog_bar=True, batch_size=len(batch.source))
        self.log_dict({f"train/{name}": part for name, part in parts.items()})
        self.log_dict({"train/gradient_norm": norm, "train/skipped_steps": self.skipped_steps})
        self._log_field(rendering)

    def _parts(self, rendering: Rendering, batch: FramePair) -> dict[str, Tensor]:
        config = self.loss_config
        parts = pixel_loss(rendering.frames, batch.driving, batch.mouth, config)
        parts |= field_loss(rendering.field, config)
        if config.threshold and self.global_step >= config.threshold_start:
            with torch.no_grad():
                wanted = self.animator.encode_appearance(batch.driving).volume
            distance = threshold_mask_loss(rendering.moved, wanted, config.threshold_tau)
            parts["threshold"] = config.threshold * distance
        return parts

    def _step_animator(self, loss: Tensor) -> Tensor:
        optimizer: Any = self.optimizers()
        set_rate(optimizer, rate_at(self.global_step, self.optimizer_config))
        optimizer.zero_grad()
        self.manual_backward(loss)
        norm = tame_gradients(self.animator.parameters(), self.optimizer_config.clip)
        self.skipped_steps += int(not torch.isfinite(norm))
        optimizer.step()
        return norm

    def _log_field(self, rendering: Rendering) -> None:
        """Dead regions and saturated masks show here first (paper.md 5.2)."""
        shares = rendering.field.regions.detach().mean(dim=(0, 2, 3, 4))
        self.log_dict(
            {
                "train/mask_mean": rendering.field.mask.detach().mean(),
                "train/background_share": shares[0],
                "train/smallest_region_share": shares[1:].min(),
                "train/largest_region_share": shares[1:].max(),
            }
        )

    def validation_step(self, batch: FramePair, batch_idx: int) -> None:
        """Score unaugmented pairs beside the baseline that copies the source."""
        self._score(batch, "val")

    def test_step(self, batch: FramePair, batch_idx: int) -> None:
        """The same scores under another name."""
        self._score(batch, "test")

    def predict_step(self, batch: FramePair, batch_idx: int) -> Tensor:
        """The drawn frames."""
        return self(batch).frames

    def _score(self, batch: FramePair, prefix: str) -> None:
        drawn = self(batch).frames
        scores = {
            "psnr": psnr(drawn, batch.driving),
            "psnr_copy": psnr(batch.source, batch.driving),
            "mouth_l1": weighted_l1(drawn, batch.driving, batch.mouth),
            "mouth_l1_copy": weighted_l1(batch.source, batch.driving, batch.mouth),
        }
        means = {f"{prefix}/{name}": score.mean() for name, score in scores.items()}
        self.log_dict(means, batch_size=len(drawn), prog_bar=True)

    def configure_optimizers(self) -> Optimizer:
        """Adam with the paper's relatives' betas (paper.md 2.4)."""
        c = self.optimizer_config
        return Adam(
            self.animator.parameters(), c.learning_rate, c.betas, weight_decay=c.weight_decay
        )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Let the checkpoint say what it is; by now its weights are the averaged ones."""
        checkpoint["kind"] = ANIMATOR
        checkpoint["config"] = asdict(self.animator.config)
        checkpoint["fingerprint"] = fingerprint(part_of(checkpoint["state_dict"], ANIMATOR))
        checkpoint["skipped_steps"] = self.skipped_steps

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse to go on with other numbers than the run was started with."""
        refuse_other_config(checkpoint, ANIMATOR, asdict(self.animator.config))
        self.skipped_steps = checkpoint["skipped_steps"]


def refuse_other_config(checkpoint: dict[str, Any], kind: str, config: dict[str, Any]) -> None:
    """A checkpoint continues only the run that it is of.

    Raises:
        UserError: it is of another stage, or a number of its net differs; the message names it.
    """
    if checkpoint.get("kind") != kind:
        raise UserError(
            f"the checkpoint holds a {checkpoint.get('kind')}, this stage trains a {kind}"
        )
    for key, value in config.items():
        saved = checkpoint["config"].get(key)
        if saved != value:
            raise UserError(
                f"the checkpoint has {key} {saved}, the config says {value}: use the config of its "
                "run, or start anew with model.initial_weights"
            )
