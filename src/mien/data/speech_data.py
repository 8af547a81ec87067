"""The LightningDataModule of stage 2: windows of motion and the audio of their clip."""

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from jaxtyping import Float
from lightning import LightningDataModule
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor
from torch.utils.data import DataLoader

from mien.checkpoint import (
    ANIMATOR,
    default_weights,
    load_animator,
    motion_fingerprint,
)
from mien.data.contents import Contents
from mien.data.datasets import spread
from mien.data.features import FeatureCache, extract_features
from mien.data.latents import extract_all, motion_examples
from mien.data.loading import endless, once
from mien.data.manifest import ClipRecord
from mien.data.records import (
    data_root,
    read_records,
    records_of_speech,
    refuse_other_framing,
)
from mien.data.specs import SpeechSpec
from mien.data.speech import FixedWindows, SpeechClips, VoiceConfig, WindowSpec, collate_speech
from mien.data.store import Store
from mien.errors import UserError
from mien.kinds import read_weights


class SpeechData(LightningDataModule):
    """Motion latents and audio features, extracted from all clips before the first run.

    Args:
        animator: stage-1 weights, .ckpt or .safetensors; without it, the shipped ones.
        root: folder or address (s3://...) that clip paths are relative to; without it, MIEN_DATA.
        train: manifest (JSONL) of the training clips.
        valid: manifest of the validation clips, preferably of other people.
        cache: folder or address for the extracted motion, with a subfolder for each animator.
        batch_size: windows per batch.
        valid_clips: number of validation clips, spread over the people; None: all of them.
        workers: processes that prepare samples; 0: the training process does it.
        start_method: of the workers; None: Python's choice.
        balance: 0 weights every person equally, 1 every second of footage.
        seed: of people, clips, windows and audio augmentation.
        voice: strength of the audio augmentation (log-mel only).
        spec: what the net in training needs (DiffusionStage.data_spec); `mien fit` links it to the
            model.
    """

    def __init__(
        self,
        animator: Path | None = None,
        root: str | None = None,
        train: Path = Path("train.jsonl"),
        valid: Path = Path("valid.jsonl"),
        cache: str = "runs/motion",
        batch_size: int = 32,
        valid_clips: int | None = 64,
        workers: int = 1,
        start_method: Literal["fork", "spawn", "forkserver"] | None = None,
        balance: float = 0.5,
        seed: int = 0,
        voice: VoiceConfig = VoiceConfig(),  # noqa: B008 (frozen)
        spec: SpeechSpec | None = None,
    ) -> None:
        super().__init__()
        self._given_spec = spec
        self.animator_path = animator or default_weights()[0]
        self.root, self.train_manifest, self.valid_manifest = root, train, valid
        self.cache, self.voice = Store(cache), voice
        self._reported: set[Path] = set()  # manifests whose silent clips were reported
        self.batch_size, self.valid_clips, self.workers = batch_size, valid_clips, workers
        self.start_method = start_method
        self.balance, self.seed = balance, seed

    def prepare_data(self) -> None:
        """Extract missing motion latents, and missing features of a pretrained front end."""
        root = data_root(self.root)
        animator = load_animator(self.animator_path)
        appearance_dim = animator.config.appearance_dim
        if self._config.appearance_dim != appearance_dim:
            raise UserError(
                f"model.speech.appearance_dim {self._config.appearance_dim} is not the "
                f"{appearance_dim} of the animator {self.animator_path}: set it to {appearance_dim}"
            )
        if self._config.appearance and not animator.config.use_appearance:
            raise UserError(
                f"model.speech.appearance is on, but the animator {self.animator_path} was trained "
                "without F_A (use_appearance: false): set model.speech.appearance to false"
            )
        records = [*self._records(self.train_manifest), *self._valid_records()]
        refuse_other_framing(records, animator.config.framing)
        self._contents.learn(records)
        records = self._contents.add_to(records)
        folder = self.cache.below(self.animator_fingerprint)
        assert self.trainer is not None
        device = self.trainer.strategy.root_device
        extract_all(animator.to(device), records, root, folder)
        extract_features(FeatureCache(self._config.front_end, folder), records, folder)

    def setup(self, stage: str) -> None:
        """Build the datasets; the motion latents exist by now."""
        folder, config = self.cache.below(self.animator_fingerprint), self._config
        window = WindowSpec(config.window, config.history, config.front_end, config.mesh)
        if stage == "fit":
            records = self._contents.add_to(self._records(self.train_manifest))
            self.speech_clips = SpeechClips(
                records, folder, window, self.voice, self.balance, self.seed
            )
        valid = self._contents.add_to(self._valid_records())
        self.fixed_windows = FixedWindows(valid, folder, window)

    def _valid_records(self) -> list[ClipRecord]:
        return spread(self._records(self.valid_manifest), self.valid_clips)

    @functools.cached_property
    def animator_fingerprint(self) -> str:
        """Of the animator whose motion is learned."""
        return motion_fingerprint(read_weights(self.animator_path, ANIMATOR).state)

    @functools.cached_property
    def _contents(self) -> Contents:
        return Contents(data_root(self.root), self.cache)

    @property
    def _config(self) -> SpeechSpec:
        if self._given_spec is None:
            raise ValueError("SpeechData(spec=...) is missing: give the stage's data_spec")
        return self._given_spec

    def _records(self, manifest: Path) -> list[ClipRecord]:
        every = read_records(data_root(self.root), manifest)
        silent = sum(not record.sound for record in every)
        if silent and manifest not in self._reported:
            self._reported.add(manifest)
            rank_zero_info(f"{silent} of {len(every)} clips of {manifest} have no sound: left out")
        return records_of_speech(every, manifest, self._config.window)

    def motion_examples(self) -> Iterator[tuple[Float[Tensor, "n m"], Float[Tensor, "1 m"]]]:
        """Differences M^i - M^0 and sources M^0 of the training clips, to fit the motion space."""
        people, folder = self.speech_clips.people.people, self.speech_clips.folder
        return motion_examples(people, folder, self._config.mesh)

    def train_dataloader(self) -> DataLoader:
        """The training windows, unlimited."""
        assert self.trainer is not None
        clips, size = self.speech_clips, self.batch_size
        more = self._config.accumulate, self.start_method
        return endless(clips, size, self.workers, self.trainer, collate_speech, *more)

    def val_dataloader(self) -> DataLoader:
        """The fixed windows, in order."""
        assert self.trainer is not None
        windows, size = self.fixed_windows, self.batch_size
        return once(windows, size, self.workers, self.trainer, collate_speech, self.start_method)

    test_dataloader = val_dataloader
    predict_dataloader = val_dataloader
