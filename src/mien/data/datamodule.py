"""The data of both stages as Lightning takes them: `PortraitData` and `SpeechData`."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lightning import LightningDataModule
from torch.utils.data import DataLoader, Sampler

from mien.data.augment import AugmentConfig
from mien.data.datasets import ClipCache, FixedPairs, FramePairs, collate_pairs
from mien.data.manifest import ClipRecord, read_manifest
from mien.errors import UserError


class SampleNumbers(Sampler[int]):
    """0, 1, 2, ... without end, from the first sample that this run has not seen."""

    def __init__(self, start: int) -> None:
        self.start = start

    def __iter__(self) -> Iterator[int]:
        number = self.start
        while True:
            yield number
            number += 1


def data_root(given: Path | None) -> Path:
    """The folder of clips: the one given, else the environment variable MIEN_DATA.

    Raises:
        UserError: neither names an existing folder.
    """
    named = given or os.environ.get("MIEN_DATA")
    if not named:
        raise UserError("no data: give the folder of your clips with --data.root or in MIEN_DATA")
    root = Path(named).expanduser()
    if not root.is_dir():
        raise UserError(f"the data folder {root} does not exist: check --data.root or MIEN_DATA")
    return root


def read_records(root: Path, manifest: Path) -> list[ClipRecord]:
    """The clips of a manifest, which lies in the working directory, else in the data root.

    Raises:
        UserError: there is no such manifest, or it lists no clip.
    """
    places = [manifest, root / manifest]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise UserError(
            f"no manifest {manifest} here nor in {root}: make one with tools/build_manifest.py"
        )
    records = read_manifest(found)
    if not records:
        raise UserError(f"the manifest {found} lists no clip: make it with tools/build_manifest.py")
    return records


class PortraitData(LightningDataModule):
    """Pairs of frames at the size of the animator in training.

    Args:
        root: folder that the manifests' clip paths start from; without it, MIEN_DATA.
        train: manifest (JSONL) of the clips to learn from.
        valid: manifest of the clips to judge on, best of other people.
        batch_size: pairs in a step.
        valid_pairs: pairs of each validation clip.
        cached_clips: decoded clips each worker keeps in memory (75 frames at 128 px take 4 MB).
        workers: processes that decode and augment beside the training; 0 does it in between.
        seed: of people, clips, frames and augmentation.
        augmentation: how strongly a pair is changed into a person who does not exist.
    """

    def __init__(
        self,
        root: Path | None = None,
        train: Path = Path("train.jsonl"),
        valid: Path = Path("valid.jsonl"),
        batch_size: int = 8,
        valid_pairs: int = 4,
        cached_clips: int = 128,
        workers: int = 1,
        seed: int = 0,
        augmentation: AugmentConfig = AugmentConfig(),  # noqa: B008 (frozen)
    ) -> None:
        super().__init__()
        self.root, self.train_manifest, self.valid_manifest = root, train, valid
        self.batch_size, self.valid_pairs = batch_size, valid_pairs
        self.cached_clips, self.workers, self.seed = cached_clips, workers, seed
        self.augmentation = augmentation

    def setup(self, stage: str) -> None:
        """Read the manifests: a mistake in them ends the run before anything is written."""
        root = data_root(self.root)
        clips = ClipCache(root, self._stage.image_size, self.cached_clips)
        if stage == "fit":
            records = read_records(root, self.train_manifest)
            self.train_pairs = FramePairs(records, clips, self.augmentation, self.seed)
        records = read_records(root, self.valid_manifest)
        self.fixed_pairs = FixedPairs(records, clips, self.valid_pairs)

    @property
    def _stage(self) -> Any:
        assert self.trainer is not None
        return self.trainer.lightning_module

    def train_dataloader(self) -> DataLoader:
        """Endless, from where the step counter stands: a resumed run sees no sample twice."""
        assert self.trainer is not None
        return DataLoader(
            self.train_pairs,
            batch_size=self.batch_size,
            sampler=SampleNumbers(self.trainer.global_step * self.batch_size),
            collate_fn=collate_pairs,
            num_workers=self.workers,
        )

    def val_dataloader(self) -> DataLoader:
        """The fixed pairs, in order."""
        return DataLoader(self.fixed_pairs, batch_size=self.batch_size, collate_fn=collate_pairs)

    test_dataloader = val_dataloader
    predict_dataloader = val_dataloader
