"""Stage 1: the animator learns to redraw one frame of a clip from another.

The paper's base model, its section 3; the paper gives no hyperparameters of the optimisation.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from mien.checkpoint import ANIMATOR
from mien.data.specs import PortraitSpec
from mien.errors import UserError
from mien.kinds import current_state, describe, read_weights, refuse_other_run
from mien.metrics import mouth_l1, psnr
from mien.portrait.animator import Animator, AnimatorConfig, Rendering
from mien.portrait.frame_decoder import decoder_state, with_larger_head
from mien.portrait.motion_encoder import token_positions, tokens_as_motion
from mien.training.discriminator import (
    DiscriminatorConfig,
    PatchDiscriminator,
    adversarial_loss,
    discriminator_loss,
    feature_matching_loss,
)
from mien.training.losses import (
    LossConfig,
    displacement_loss,
    field_loss,
    pixel_loss,
    threshold_mask_loss,
    token_position_loss,
)
from mien.training.optimization import OptimizerConfig
from mien.training.perceptual import PerceptualLoss
from mien.training.steps import SteppedModule
from mien.types import FramePair


class ReconstructionStage(SteppedModule):
    """Trains an Animator on pairs of frames.

    Args:
        animator: hyperparameters of the net.
        loss: weights of the loss terms.
        optimizer: optimiser and learning rate, also of the discriminator.
        discriminator: hyperparameters of the discriminator, used if loss.adversarial is above 0.
        initial_weights: weights of an earlier run to start from, which may have another image_size
            (128 first, then 256), a smaller upscale, no guide yet, or a decoder where this one
            has none, or none where this one starts with a fresh one.
        frozen: parts of the animator that are not trained, like motion_encoder: a frozen motion
            encoder and appearance vector keep the motion that a stage 2 has learned.
    """

    kind = ANIMATOR

    def __init__(
        self,
        animator: AnimatorConfig = AnimatorConfig(),  # noqa: B008 (frozen)
        loss: LossConfig = LossConfig(),  # noqa: B008
        optimizer: OptimizerConfig = OptimizerConfig(),  # noqa: B008
        discriminator: DiscriminatorConfig = DiscriminatorConfig(),  # noqa: B008
        initial_weights: Path | None = None,
        frozen: tuple[str, ...] = (),
    ) -> None:
        super().__init__(optimizer)
        self.loss_config = loss
        if loss.token_position and animator.motion_pooling == "mean":
            raise UserError(
                "loss.token_position needs the positions of motion tokens, which motion_pooling "
                "mean does not give: set loss.token_position to 0, or motion_pooling to attention"
            )
        if loss.threshold and animator.decoder == "none":
            raise UserError(
                "loss.threshold compares warped features, which decoder none does not have: set "
                "loss.threshold to 0, or choose another decoder"
            )
        self.animator = Animator(animator)
        for name in frozen:
            self._part(name).requires_grad_(False)
        self.discriminator = PatchDiscriminator(discriminator) if loss.adversarial else None
        # In a tuple, so that the frozen trunk is neither saved with the run nor averaged.
        self._perceptual = (
            (PerceptualLoss(loss.perceptual_trunk, loss.perceptual_scales),)
            if loss.perceptual
            else ()
        )
        self.from_scratch = initial_weights is None
        if initial_weights is not None:
            self._start_from(initial_weights)

    @property
    def data_spec(self) -> PortraitSpec:
        """What the data module must provide."""
        c, accumulate = self.animator.config, self.optimizer_config.accumulate
        return PortraitSpec(c.image_size, c.temporal_context, c.guide, c.framing, accumulate)

    def _part(self, name: str) -> nn.Module:
        parts = dict(self.animator.named_children())
        if name not in parts:
            raise UserError(f"frozen {name} is not a part of the animator: {', '.join(parts)}")
        return parts[name]

    def _start_from(self, path: Path) -> None:
        weights = read_weights(path, ANIMATOR)
        state, config = current_state(weights), self.animator.config
        fresh = {} if weights.config.get("guide") else self.animator.guide_state()
        if config.decoder == "none":
            state = {k: v for k, v in state.items() if k not in decoder_state(state)}
        elif weights.config["decoder"] == "none":
            fresh |= decoder_state(self.animator.state_dict())
        elif config.upscale > weights.config.get("upscale", 1) == 1:
            state = with_larger_head(state, config.upscale)
        try:
            self.animator.load_state_dict(fresh | state)
        except RuntimeError as error:
            reason = " ".join(str(error).split("\n\t", 1)[-1].split())
            raise UserError(f"initial_weights {path} do not fit this animator: {reason}") from error

    def setup(self, stage: str) -> None:
        """Fetch a pretrained backbone's weights, in a run that starts from scratch."""
        if stage == "fit" and self.from_scratch and self.trainer.ckpt_path is None:
            self.animator.motion_encoder.load_pretrained()

    def forward(self, pair: FramePair) -> Rendering:
        """Redraw each source with its driving frame's motion."""
        return self._draw(pair, *self._tokens(pair))

    def _tokens(self, pair: FramePair) -> tuple[Tensor, ...]:
        """Of the source (b k n n), and of the driving frame and its neighbours (b t k n n)."""
        b, t = pair.motion_view_driving.shape[:2]
        views = torch.cat((pair.motion_view_source, pair.motion_view_driving.flatten(0, 1)))
        source, driving = self.animator.motion_encoder.tokens(views).split((b, b * t))
        return source, driving.unflatten(0, (b, t))

    def _draw(self, pair: FramePair, source: Tensor, driving: Tensor) -> Rendering:
        appearance = self.animator.encode_appearance(pair.source)
        motion = tokens_as_motion(driving.flatten(0, 1)).unflatten(0, driving.shape[:2])
        middle = motion.shape[1] // 2
        drawn = slice(middle, middle + 1)
        return self.animator.draw(appearance, tokens_as_motion(source), motion, pair.guide, drawn)

    def on_fit_start(self) -> None:
        """Move the perceptual net, which is not a submodule, to the device."""
        super().on_fit_start()
        for perceptual in self._perceptual:
            perceptual.to(self.device)

    def training_step(self, batch: FramePair, batch_idx: int) -> None:
        """One step of the animator, then one of the discriminator once it has begun."""
        adversary = self._adversary()
        tokens = self._tokens(batch)
        rendering = self._draw(batch, *tokens)
        parts = self._parts(rendering, batch, *tokens)
        parts |= self._adversarial_parts(rendering, batch, adversary)
        loss = torch.stack(list(parts.values())).sum()
        optimizers: Any = self.optimizers()
        first = optimizers[0] if isinstance(optimizers, list) else optimizers
        norm = self.gather(first, self.animator, loss)
        if adversary is not None:
            parts["discriminator"] = self._step_discriminator(rendering, batch, adversary)

        self.log("train/loss", loss.detach(), prog_bar=True)
        self.log_dict({f"train/{name}": part.detach() for name, part in parts.items()})
        self.end_batch(norm)
        self._log_field(rendering)

    def _adversary(self) -> PatchDiscriminator | None:
        begun = self.global_step >= self.loss_config.adversarial_start
        return self.discriminator if begun else None

    def _parts(
        self, rendering: Rendering, batch: FramePair, source: Tensor, driving: Tensor
    ) -> dict[str, Tensor]:
        config = self.loss_config
        parts = pixel_loss(rendering.frames, batch.driving, batch.mouth, batch.pixel_weight, config)
        parts |= field_loss(rendering.field, config)
        known = displacement_loss(rendering.field, batch, config.displacement_mouth)
        parts["displacement"] = config.displacement * known
        middle = driving[:, driving.shape[1] // 2]
        places = token_positions(source), token_positions(middle)
        parts["token_position"] = config.token_position * token_position_loss(
            *places, batch, config.displacement_mouth
        )
        for perceptual in self._perceptual:
            parts["perceptual"] = config.perceptual * perceptual(rendering.frames, batch.driving)
        if config.threshold and self.global_step >= config.threshold_start:
            assert rendering.moved is not None
            with torch.no_grad():
                wanted = self.animator.encode_appearance(batch.driving).volume
            distance = threshold_mask_loss(rendering.moved, wanted, config.threshold_tau)
            parts["threshold"] = config.threshold * distance
        return parts

    def _adversarial_parts(
        self, rendering: Rendering, batch: FramePair, adversary: PatchDiscriminator | None
    ) -> dict[str, Tensor]:
        if adversary is None:
            return {}
        weight = self.loss_config.adversarial
        # The discriminator is trained in a step of its own, not by this loss.
        adversary.requires_grad_(False)
        drawn = adversary(rendering.frames)
        with torch.no_grad():
            real = adversary(batch.driving)
        adversary.requires_grad_(True)
        matching = self.loss_config.feature_matching * feature_matching_loss(real, drawn)
        return {
            "adversarial": weight * adversarial_loss(drawn),
            "feature_matching": weight * matching,
        }

    def _step_discriminator(
        self, rendering: Rendering, batch: FramePair, adversary: PatchDiscriminator
    ) -> Tensor:
        # Lightning counts the steps of every wrapped optimiser: the bare one keeps the counter
        # equal to the batches seen, and is saved and resumed like the other.
        optimizers: Any = self.optimizers(use_pl_optimizer=False)
        loss = discriminator_loss(adversary(batch.driving), adversary(rendering.frames.detach()))
        self.gather(optimizers[1], adversary, loss)
        return loss.detach()

    def _log_field(self, rendering: Rendering) -> None:
        """Log the regions' weights and the mask, to notice dead regions and a saturated mask."""
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
        """The rendered frames."""
        return self(batch).frames

    def _score(self, batch: FramePair, prefix: str) -> None:
        drawn = self(batch).frames
        scores = {
            "psnr": psnr(drawn, batch.driving),
            "psnr_copy": psnr(batch.source, batch.driving),
            "mouth_l1": mouth_l1(drawn, batch.driving, batch.mouth),
            "mouth_l1_copy": mouth_l1(batch.source, batch.driving, batch.mouth),
        }
        for name, score in scores.items():
            known = score[~score.isnan()]
            mean = known.mean() if len(known) else score.new_zeros(())
            # A batch of unknown mouths has weight 0, yet every process logs the same names.
            weight = len(known)
            self.log(f"{prefix}/{name}", mean, batch_size=weight, prog_bar=True, sync_dist=True)

    def configure_optimizers(self) -> list[Optimizer]:
        """One Adam for the animator, one for the discriminator where there is one."""
        nets = (
            [self.animator] if self.discriminator is None else [self.animator, self.discriminator]
        )
        c = self.optimizer_config
        return [
            Adam(
                [p for p in net.parameters() if p.requires_grad],
                c.learning_rate,
                c.betas,
                weight_decay=c.weight_decay,
            )
            for net in nets
        ]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store kind, config and fingerprint; by now the weights are the averaged ones."""
        describe(checkpoint, ANIMATOR, self.animator.config)
        super().on_save_checkpoint(checkpoint)

    def refuse_checkpoint(self, checkpoint: dict[str, Any], data: Any) -> None:
        """Check that the checkpoint is of this net and config.

        Raises:
            UserError: it is not.
        """
        refuse_other_run(checkpoint, ANIMATOR, self.animator.config)
