"""Stage 2: motion diffusion from speech (the paper's latent motion appearance diffusion)."""

from dataclasses import asdict, replace
from typing import Any

import torch
from torch import Tensor
from torch.optim import AdamW

from mien.audio.features import STEPS_PER_FRAME
from mien.checkpoint import SPEECH_TO_MOTION
from mien.data.specs import SpeechSpec
from mien.errors import UserError
from mien.kinds import describe, refuse_other_run
from mien.motion.conditioning import ConditionDropout
from mien.motion.objective import SpeechObjectiveConfig, speech_objective
from mien.motion.rollout import rollout
from mien.motion.sampling import SamplingConfig
from mien.motion.space import MotionStatistics
from mien.motion.speech_to_motion import SpeechToMotion, SpeechToMotionConfig
from mien.training.optimization import STAGE2, OptimizerConfig, decay_groups
from mien.training.steps import SteppedModule
from mien.types import SpeechClip


class DiffusionStage(SteppedModule):
    """Trains a SpeechToMotion on the motion of one animator.

    Args:
        speech: hyperparameters of the net.
        objective: loss weights, condition dropout and augmentations.
        optimizer: optimiser and learning rate.
        sampling: how `predict` samples motion, and whoever uses the weights by default.
    """

    kind = SPEECH_TO_MOTION

    def __init__(
        self,
        speech: SpeechToMotionConfig = SpeechToMotionConfig(),  # noqa: B008 (frozen)
        objective: SpeechObjectiveConfig = SpeechObjectiveConfig(),  # noqa: B008
        optimizer: OptimizerConfig = STAGE2,
        sampling: SamplingConfig = SamplingConfig(),  # noqa: B008
    ) -> None:
        super().__init__(optimizer)
        if objective.needs_mesh and not speech.mesh:
            raise UserError(
                "objective.closed_lips and objective.lips need the lips of a face's mesh: "
                "set speech.mesh to true, or closed_lips to 1 and lips to 0"
            )
        self.objective_config = objective
        self.speech = SpeechToMotion(speech, sampling)

    @property
    def data_spec(self) -> SpeechSpec:
        """What the data module must provide."""
        c = self.speech.config
        return SpeechSpec(
            c.appearance_dim,
            c.window,
            c.history,
            c.front_end,
            c.mesh,
            self.optimizer_config.accumulate,
            c.appearance,
        )

    def setup(self, stage: str) -> None:
        """For `fit`, fit the motion space."""
        if stage == "fit":
            statistics = MotionStatistics(sum(self.speech.config.motion_blocks))
            for differences, source in self.data.motion_examples():
                statistics.add(differences, source)
            kept = self.speech.space.fit_to(statistics)
            dims = self.speech.config.space_dims
            self.print(f"motion space: {dims} dimensions hold {kept:.1%} of the variance")

    def training_step(self, batch: SpeechClip, batch_idx: int) -> None:
        """One batch of a step."""
        loss, parts = speech_objective(
            self.speech, batch, self.objective_config, self._generator(self.batch_seed)
        )
        norm = self.gather(self.optimizers(), self.speech, loss)
        self.log("train/loss", loss.detach(), prog_bar=True)
        self.log_dict({f"train/{name}": part.detach() for name, part in parts.items()})
        self.end_batch(norm)

    def _generator(self, seed: int) -> torch.Generator:
        return torch.Generator(self.device).manual_seed(seed)

    def validation_step(self, batch: SpeechClip, batch_idx: int) -> None:
        """The loss without training's randomness (condition dropout, history noise, gain), and the
        loss with mismatched speech: their difference shows how much the net uses the audio.
        """
        self._score(batch, batch_idx, "val")

    def test_step(self, batch: SpeechClip, batch_idx: int) -> None:
        """The same scores under another name."""
        self._score(batch, batch_idx, "test")

    def _score(self, batch: SpeechClip, seed: int, prefix: str) -> None:
        config = without_training_draws(self.objective_config)
        loss, parts = speech_objective(self.speech, batch, config, self._generator(seed))
        mismatched = with_other_speech(batch)
        other, _ = speech_objective(self.speech, mismatched, config, self._generator(seed))
        size = len(batch.motion)
        losses = {f"{prefix}/loss": loss, f"{prefix}/loss_other_speech": other}
        self.log_dict(losses, prog_bar=True, batch_size=size, sync_dist=True)
        named = {f"{prefix}/{name}": part for name, part in parts.items()}
        self.log_dict(named, batch_size=size, sync_dist=True)

    def predict_step(self, batch: SpeechClip, batch_idx: int) -> Tensor:
        """Motion for the whole sound of each clip (b t m)."""
        audio = self.speech.encode_audio(batch.features, batch.feature_lengths)
        windows = rollout(
            self.speech,
            audio,
            batch.appearance,
            batch.source_motion,
            self.speech.sampling,
            self._generator(batch_idx),
        )
        return torch.cat(list(windows), dim=1)

    def configure_optimizers(self) -> AdamW:
        """AdamW, with no weight decay on Mamba's A, D and time step bias."""
        c = self.optimizer_config
        return AdamW(decay_groups(self.speech, c.weight_decay), c.learning_rate, c.betas)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store kind, config, fingerprints and sampling; the weights are now the averaged ones."""
        describe(checkpoint, SPEECH_TO_MOTION, self.speech.config)
        checkpoint["animator_fingerprint"] = self.data.animator_fingerprint
        checkpoint["sampling"] = asdict(self.speech.sampling)
        super().on_save_checkpoint(checkpoint)

    def refuse_checkpoint(self, checkpoint: dict[str, Any], data: Any) -> None:
        """Check that the checkpoint is of this net and config, and of the animator of the data.

        Raises:
            UserError: it is not.
        """
        refuse_other_run(checkpoint, SPEECH_TO_MOTION, self.speech.config)
        saved = checkpoint["animator_fingerprint"]
        if saved != data.animator_fingerprint:
            raise UserError(
                f"the checkpoint was trained on the motion of animator {saved}, but data.animator "
                f"is {data.animator_fingerprint}: give the animator of that run"
            )


def without_training_draws(config: SpeechObjectiveConfig) -> SpeechObjectiveConfig:
    """The same objective without condition dropout, history noise or gain augmentation."""
    everything = ConditionDropout(audio=0.0, everything=0.0, history=0.0)
    return replace(
        config,
        dropout=everything,
        predicted_history=0.0,
        history_noise=(0.0, 0.0),
        gain_augmentation=0.0,
    )


def with_other_speech(batch: SpeechClip) -> SpeechClip:
    """Mismatched speech: every window with the sound of the next sample, started early enough to
    last for a window; with its own sound reversed, if the next sample is of the same clip.
    """
    features, lengths = batch.features.roll(1, 0), batch.feature_lengths.roll(1, 0)
    for sample, length in enumerate(lengths.tolist()):
        if torch.equal(features[sample], batch.features[sample]):
            reversed_ = features[sample, :length].flip(0)
            features[sample, :length] = reversed_
    last_start = lengths // STEPS_PER_FRAME - batch.motion.shape[1]
    start = batch.start.minimum(last_start.clamp(min=0))
    return replace(batch, features=features, feature_lengths=lengths, start=start)
