"""Training of Loki: the net denoises windows of a clip, given another frame of it and its faces.

Same-identity pairs alone, one independent timestep for each frame, and dropout of the conditions
for guidance, as in the authors' repository. Half of the windows are noised as sampling begins
instead (ours): among independent timesteps one frame is nearly always cleaner than the others, and
a small net learns to copy that one before it looks at the reference. The velocity form with zero
terminal SNR is ours, since at pure noise a prediction of the noise says nothing of the picture; and
the clean picture itself in pixels, weighted as the velocity's error is: a patch holds more values
than a small net can carry noise through.
Axes: b batch, t frames, c channels of a sample, h w space.
"""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor
from torch.nn.functional import adaptive_avg_pool2d
from torch.optim import AdamW

from mien.data.faces import face_model
from mien.data.specs import WindowSpec
from mien.diffusion.objective import add_noise, to_clean, training_target
from mien.diffusion.schedule import Levels, expand_to
from mien.errors import UserError
from mien.face_model.maps import mouth_and_eyes
from mien.kinds import (
    config_of,
    current_state,
    describe,
    read_weights,
    refuse_other_run,
)
from mien.loki.config import LokiConfig
from mien.loki.net import Loki
from mien.loki.sampling import LokiSamplingConfig, sample_frames
from mien.loki.weights import LOKI, face_model_record, refuse_other_face_model, resize_patch
from mien.training.optimization import OptimizerConfig, decay_groups
from mien.training.steps import SteppedModule
from mien.types import FaceWindow

_MAX_WEIGHT = 5.0  # weight of an error of the form x0, in nearly clean frames
OPTIMIZER = OptimizerConfig(learning_rate=4e-4, weight_decay=0.01, warmup_steps=200)


@dataclass(frozen=True)
class LokiObjectiveConfig:
    """How a training sample is made and weighed."""

    condition_dropout: float = 0.1  # chance that a window's maps are dropped
    reference_dropout: float = 0.1  # chance that its reference is; the smaller of both drops both
    # chance that a window is noised as in sampling: one timestep and one noise for all its frames,
    # or for all but a clean first one (of the window before); ours, 0 as the authors' repository
    as_sampled: float = 0.5
    face: float = 1.0  # extra weight of the error where the face is; ours, 0 as the authors'
    # extra weight at the mouth and the eyes, of neutral positions alone; ours, 0 as the authors'
    mouth_and_eyes: float = 0.0


@dataclass(frozen=True)
class Noised:
    """A batch with noise, the same for every net that is compared on it; which samples have their
    map and their reference is on the CPU.
    """

    clean: Float[Tensor, "b t c h w"]
    noise: Float[Tensor, "b t c h w"]
    levels: Levels
    has_map: Bool[Tensor, " b"]
    has_reference: Bool[Tensor, " b"]


class LokiStage(SteppedModule):
    """Trains Loki on windows of frames.

    Args:
        loki: hyperparameters of the net.
        objective: dropout of the conditions, and weights of the loss.
        optimizer: optimiser and learning rate.
        sampling: how previews and predictions are sampled, and whoever uses the weights by default.
        initial_weights: weights of an earlier run to start from; its patches may be smaller.
    """

    feature_middles: Tensor
    feature_deviations: Tensor

    kind = LOKI

    def __init__(
        self,
        loki: LokiConfig = LokiConfig(),  # noqa: B008 (frozen)
        objective: LokiObjectiveConfig = LokiObjectiveConfig(),  # noqa: B008
        optimizer: OptimizerConfig = OPTIMIZER,
        sampling: LokiSamplingConfig = LokiSamplingConfig(),  # noqa: B008
        initial_weights: Path | None = None,
    ) -> None:
        super().__init__(optimizer)
        self.loki = Loki(loki)
        self.objective_config, self.sampling = objective, sampling
        if objective.mouth_and_eyes and loki.drawn_positions != "neutral":
            raise ValueError(
                f"objective.mouth_and_eyes {objective.mouth_and_eyes} needs the positions neutral, "
                f"not {loki.positions}: set it to 0"
            )
        if objective.mouth_and_eyes:
            middles, deviations = map(torch.from_numpy, mouth_and_eyes(face_model()))
            self.register_buffer("feature_middles", middles, persistent=False)
            self.register_buffer("feature_deviations", deviations, persistent=False)
        self.from_scratch = initial_weights is None
        if initial_weights is not None:
            self._start_from(initial_weights)

    @property
    def data_spec(self) -> WindowSpec:
        """What the data module must provide."""
        c = self.loki.config
        accumulate = self.optimizer_config.accumulate
        return WindowSpec(c.image_size, c.map_size, c.window, c.drawn_positions, accumulate)

    def _start_from(self, path: Path) -> None:
        weights = read_weights(path, LOKI)
        refuse_other_face_model(weights.face_model, path)
        state, config = current_state(weights), self.loki.config
        before = config_of(LOKI, weights.config)
        if before.patch != config.patch:
            state = resize_patch(state, before, config)
        try:
            self.loki.load_state_dict(state)
        except RuntimeError as error:
            reason = " ".join(str(error).split("\n\t", 1)[-1].split())
            raise UserError(f"initial_weights {path} do not fit this net: {reason}") from error

    def setup(self, stage: str) -> None:
        """Read the pretrained UNet, in a run that starts from it."""
        if stage == "fit" and self.from_scratch and self.trainer.ckpt_path is None:
            self.loki.load_pretrained()

    def training_step(self, batch: FaceWindow, batch_idx: int) -> None:
        """One batch of a step."""
        loss, _ = self._loss(batch, self._noised(batch, self.objective_config, self.batch_seed))
        norm = self.gather(self.optimizers(), self.loki, loss)
        self.log("train/loss", loss.detach(), prog_bar=True)
        self.end_batch(norm)

    def _noised(self, batch: FaceWindow, config: LokiObjectiveConfig, seed: int) -> Noised:
        """Random numbers are drawn on the CPU: the same on every device."""
        generator = Generator().manual_seed(seed)
        b, t = batch.frames.shape[:2]
        timesteps = len(self.loki.schedule.alphas)
        timestep = torch.randint(timesteps, (b, t), generator=generator)
        clean = self.loki.encode(batch.frames)
        noise = torch.randn(clean.shape, generator=generator)
        # One draw for both conditions: they are dropped together, as in guidance.
        chance = torch.rand(b, generator=generator)
        timestep, noise = as_sampled(timestep, noise, config.as_sampled, generator)
        return Noised(
            clean,
            noise.to(clean),
            self.loki.schedule.at(timestep, clean),
            chance >= config.condition_dropout,
            chance >= config.reference_dropout,
        )

    def _loss(
        self, batch: FaceWindow, noised: Noised
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """Weighted squared error of the prediction, and that of the clean sample, which is of one
        unit for all forms of the prediction.
        """
        net, levels = self.loki, noised.levels
        mixture = add_noise(noised.clean, noised.noise, levels)
        condition = net.encode_condition(batch.maps, batch.coefficients)
        has_map = noised.has_map.to(condition.device)
        condition = condition * has_map[:, None, None, None, None]
        reference = net.encode_reference(
            batch.reference, batch.reference_map, batch.reference_coefficients
        )
        drawn = net(mixture, levels.level, condition, reference, noised.has_reference).float()
        form = net.config.form
        target = training_target(noised.clean, noised.noise, levels, form)
        error = (drawn - target).square().mean(dim=2)
        if form == "x0":  # as the velocity's error, but for nearly clean frames
            error = error * expand_to(
                levels.sigma.square().clamp(min=1 / _MAX_WEIGHT).reciprocal(), error
            )
        weight = self._weight(batch)
        clean = to_clean(drawn, mixture, levels, form)
        distance = (clean - noised.clean).square().mean().detach()
        return (weight * error).sum() / weight.sum(), distance

    def _weight(self, batch: FaceWindow) -> Float[Tensor, "b t h w"]:
        """The weight of the error at every place of a sample."""
        config = self.objective_config
        positions, covered = batch.maps[:, :, :3], batch.maps[:, :, 6]
        weight = config.face * covered
        if config.mouth_and_eyes:
            away = rearrange(positions, "b t p h w -> b t h w 1 p") - self.feature_middles
            near = (-0.5 * (away / self.feature_deviations).square().sum(dim=-1)).exp()
            weight = weight + config.mouth_and_eyes * covered * near.amax(dim=-1)
        return 1 + adaptive_avg_pool2d(weight, self.loki.config.feature_size)

    def validation_step(self, batch: FaceWindow, batch_idx: int) -> None:
        """The loss without dropout, and what it is without map and without reference: how much
        higher these are shows how much the net uses them.
        """
        self._score(batch, batch_idx, "val")

    def test_step(self, batch: FaceWindow, batch_idx: int) -> None:
        """The same scores under another name."""
        self._score(batch, batch_idx, "test")

    def _score(self, batch: FaceWindow, seed: int, prefix: str) -> None:
        everything = replace(
            self.objective_config, condition_dropout=0.0, reference_dropout=0.0, as_sampled=1.0
        )
        noised = self._noised(batch, everything, seed)
        none = torch.zeros_like(noised.has_map)
        scores: dict[str, Tensor] = {}
        for name, given in (
            ("", noised),
            ("_without_map", replace(noised, has_map=none)),
            ("_without_reference", replace(noised, has_reference=none)),
        ):
            loss, distance = self._loss(batch, given)
            scores |= {f"{prefix}/loss{name}": loss, f"{prefix}/clean_error{name}": distance}
        self.log_dict(scores, prog_bar=True, batch_size=len(batch.frames), sync_dist=True)

    def forward(self, batch: FaceWindow, seed: int = 0) -> Float[Tensor, "b t 3 h w"]:
        """Sample the frames of each window from noise."""
        reference = self.loki.encode_reference(
            batch.reference, batch.reference_map, batch.reference_coefficients
        )
        generator = Generator().manual_seed(seed)

        def condition(first: int, last: int) -> Tensor:
            return self.loki.encode_condition(
                batch.maps[:, first:last], batch.coefficients[:, first:last]
            )

        count = batch.frames.shape[1]
        drawn = sample_frames(self.loki, reference, count, condition, self.sampling, generator)
        return torch.cat(list(drawn), dim=1)

    def predict_step(self, batch: FaceWindow, batch_idx: int) -> Tensor:
        """The sampled frames."""
        return self(batch, batch_idx)

    def configure_optimizers(self) -> AdamW:
        """AdamW, on the parts that are trained."""
        c = self.optimizer_config
        return AdamW(decay_groups(self.loki, c.weight_decay), c.learning_rate, c.betas)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store kind, config, fingerprint, face model and sampling; by now the weights are the
        averaged ones.
        """
        describe(checkpoint, LOKI, self.loki.config)
        checkpoint["face_model"] = face_model_record()
        checkpoint["sampling"] = asdict(self.sampling)
        super().on_save_checkpoint(checkpoint)

    def refuse_checkpoint(self, checkpoint: dict[str, Any], data: Any) -> None:
        """Check that the checkpoint is of this net, config and face model.

        Raises:
            UserError: it is not.
        """
        refuse_other_run(checkpoint, LOKI, self.loki.config)
        refuse_other_face_model(checkpoint.get("face_model"), "the checkpoint")


def as_sampled(
    timestep: Int[Tensor, "b t"],
    noise: Float[Tensor, "b t c h w"],
    share: float,
    generator: Generator,
) -> tuple[Int[Tensor, "b t"], Float[Tensor, "b t c h w"]]:
    """A share of the windows with the last frame's timestep and noise for all frames; half of them
    with a clean first frame, if there are others.
    """
    kind = torch.rand(len(timestep), generator=generator)
    same = kind < share
    timestep = torch.where(same[:, None], timestep[:, -1:], timestep)
    noise = torch.where(same[:, None, None, None, None], noise[:, -1:], noise)
    if timestep.shape[1] > 1:
        timestep[kind < share / 2, 0] = 0
    return timestep, noise
