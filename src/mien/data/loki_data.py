"""The LightningDataModule of Loki: windows of frames with the maps of their faces."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from lightning import LightningDataModule
from torch.utils.data import DataLoader

from mien.data.clips import ClipCache
from mien.data.datasets import spread
from mien.data.faces import FaceCache
from mien.data.loading import endless, once
from mien.data.manifest import ClipRecord
from mien.data.records import data_root, read_records, refuse_other_framing
from mien.data.specs import WindowSpec
from mien.data.windows import (
    ClipFaces,
    FaceWindows,
    FixedWindows,
    WindowAugmentConfig,
    collate_windows,
)
from mien.errors import UserError


class LokiData(LightningDataModule):
    """Windows of frames at the size of the net in training.

    Args:
        root: folder or address (s3://...) that clip paths are relative to; without it, MIEN_DATA.
        train: manifest (JSONL) of the training clips.
        valid: manifest of the validation clips, preferably of other people.
        batch_size: windows per batch.
        valid_clips: number of validation clips, spread over the people; None: all of them.
        valid_windows: windows of each of these clips.
        stride: largest distance of two frames of a window; sampled from 1 up.
        cached_megabytes: size of each worker's cache of decoded clips.
        map_megabytes: size of each worker's cache of face maps.
        workers: processes that decode, draw maps and augment; 0: the training process does it.
        start_method: of the workers; None: Python's choice.
        balance: 0 weights every person equally, 1 every second of footage.
        seed: of people, clips, frames and augmentation.
        faces: folder of the cache of fitted faces.
        augmentation: strength of the augmentation.
        spec: what the net in training needs (LokiStage.data_spec); `mien fit` links it to the
            model.
    """

    def __init__(
        self,
        root: str | None = None,
        train: Path = Path("train.jsonl"),
        valid: Path = Path("valid.jsonl"),
        batch_size: int = 4,
        valid_clips: int | None = 16,
        valid_windows: int = 1,
        stride: int = 4,
        cached_megabytes: int = 512,
        map_megabytes: int = 1500,
        workers: int = 1,
        start_method: Literal["fork", "spawn", "forkserver"] | None = None,
        balance: float = 0.25,
        seed: int = 0,
        faces: Path = Path("runs/faces"),
        augmentation: WindowAugmentConfig = WindowAugmentConfig(),  # noqa: B008 (frozen)
        spec: WindowSpec | None = None,
    ) -> None:
        super().__init__()
        self._given_spec = spec
        self.root, self.train_manifest, self.valid_manifest = root, train, valid
        self.batch_size, self.stride = batch_size, stride
        self.valid_clips, self.valid_windows = valid_clips, valid_windows
        self.cached_megabytes, self.map_megabytes = cached_megabytes, map_megabytes
        self.workers, self.start_method = workers, start_method
        self.balance, self.seed, self.augmentation = balance, seed, augmentation
        self.faces = faces

    @property
    def _spec(self) -> WindowSpec:
        if self._given_spec is None:
            raise ValueError("LokiData(spec=...) is missing: give the stage's data_spec")
        return self._given_spec

    @functools.cached_property
    def _face_cache(self) -> FaceCache:
        return FaceCache(data_root(self.root), self.faces)

    def prepare_data(self) -> None:
        """Validate the manifests, then fit the face model to all clips that are not fitted yet."""
        records = [*self._records(self.train_manifest), *self._valid_records()]
        refuse_other_framing(records, "face")
        self._face_cache.extract(records)

    def setup(self, stage: str) -> None:
        """Build the datasets.

        Raises:
            UserError: no clip shows a face in as many frames as a window has.
        """
        root, size, length = data_root(self.root), self._spec.image_size, self._spec.window
        drawn = self._face_cache, self._spec.map_size, self._spec.positions
        if stage == "fit":
            records = self._long_enough(self._records(self.train_manifest), self.train_manifest)
            self.train_windows = FaceWindows(
                records,
                ClipCache(root, size, self.cached_megabytes * 10**6),
                ClipFaces(*drawn, self.map_megabytes * 10**6),
                length,
                self.stride,
                self.augmentation,
                self.balance,
                self.seed,
            )
        # Validation reads few frames: no cache.
        valid = self._long_enough(self._valid_records(), self.valid_manifest)
        sought = ClipCache(root, size, capacity=0)
        self.fixed_windows = FixedWindows(
            valid, sought, ClipFaces(*drawn), length, self.valid_windows
        )

    def _records(self, manifest: Path) -> list[ClipRecord]:
        return read_records(data_root(self.root), manifest)

    def _valid_records(self) -> list[ClipRecord]:
        return spread(self._records(self.valid_manifest), self.valid_clips)

    def _long_enough(self, records: Sequence[ClipRecord], manifest: Path) -> list[ClipRecord]:
        found = [
            record
            for record in records
            if len(self._face_cache.read(record) or ()) >= self._spec.window
        ]
        if not found:
            raise UserError(
                f"no clip of {manifest} shows a face in the {self._spec.window} frames of "
                "model.loki.window: give other clips, or lower it"
            )
        return found

    def train_dataloader(self) -> DataLoader:
        """The training windows, unlimited."""
        assert self.trainer is not None
        windows, size = self.train_windows, self.batch_size
        more = self._spec.accumulate, self.start_method
        return endless(windows, size, self.workers, self.trainer, collate_windows, *more)

    def val_dataloader(self) -> DataLoader:
        """The fixed windows, in order."""
        assert self.trainer is not None
        windows, size = self.fixed_windows, self.batch_size
        return once(windows, size, self.workers, self.trainer, collate_windows, self.start_method)

    test_dataloader = val_dataloader
    predict_dataloader = val_dataloader
