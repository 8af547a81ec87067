"""The LightningDataModule of stage 1: pairs of frames."""

import functools
from pathlib import Path
from typing import Literal

from lightning import LightningDataModule
from torch.utils.data import DataLoader

from mien.data.augment import AugmentConfig
from mien.data.datasets import ClipCache, FixedPairs, FramePairs, MixedPairs, collate_pairs, spread
from mien.data.loading import endless, once
from mien.data.manifest import ClipRecord
from mien.data.meshes import MeshCache
from mien.data.records import (
    data_root,
    read_records,
    refuse_other_framing,
)
from mien.data.specs import PortraitSpec
from mien.data.store import Store
from mien.errors import UserError


class PortraitData(LightningDataModule):
    """Pairs of frames at the size of the animator in training.

    Args:
        root: folder or address (s3://...) that clip paths are relative to; without it, MIEN_DATA.
        train: manifest (JSONL) of the training clips.
        valid: manifest of the validation clips, preferably of other people.
        batch_size: pairs per batch.
        valid_clips: number of validation clips, spread over the people; None: all of them.
        valid_pairs: pairs of each of these clips.
        cached_megabytes: size of each worker's cache of decoded clips, over all data sets.
        workers: processes that decode and augment; 0: the training process does it.
        start_method: of the workers; None: Python's choice.
        balance: 0 weights every person equally, 1 every second of footage.
        seed: of people, clips, frames and augmentation.
        meshes: folder of the cache of face meshes, used if the animator has a guide.
        mix: more data sets, each with its own train.jsonl: folder (in the root, else here) or
            address -> weight. The root weighs 1; a set that weighs 0.5 gives half as many pairs.
        cross_identity: share of pairs of `mien make-pairs` whose motion encoder sees another person
            who makes the same motion.
        augmentation: strength of the augmentation.
        spec: what the animator in training needs (ReconstructionStage.data_spec); `mien fit` links
            it to the model.
    """

    def __init__(
        self,
        root: str | None = None,
        train: Path = Path("train.jsonl"),
        valid: Path = Path("valid.jsonl"),
        batch_size: int = 8,
        valid_clips: int | None = 64,
        valid_pairs: int = 4,
        cached_megabytes: int = 512,
        workers: int = 1,
        start_method: Literal["fork", "spawn", "forkserver"] | None = None,
        balance: float = 0.25,
        seed: int = 0,
        meshes: Path = Path("runs/meshes"),
        mix: dict[str, float] | None = None,
        cross_identity: float = 0.0,
        augmentation: AugmentConfig = AugmentConfig(),  # noqa: B008 (frozen)
        spec: PortraitSpec | None = None,
    ) -> None:
        super().__init__()
        self._given_spec = spec
        self.root, self.train_manifest, self.valid_manifest = root, train, valid
        self.batch_size = batch_size
        self.valid_clips, self.valid_pairs = valid_clips, valid_pairs
        self.cached_megabytes, self.workers = cached_megabytes, workers
        self.start_method = start_method
        self.balance, self.seed = balance, seed
        self.meshes, self.augmentation = meshes, augmentation
        self.mix, self.cross_identity = mix or {}, cross_identity
        for place, weight in self.mix.items():
            if not 0 < weight < float("inf"):
                raise UserError(f"data.mix gives {place} the weight {weight}: it must be above 0")

    def prepare_data(self) -> None:
        """Validate the manifests before anything is written; then extract the face meshes, if the
        animator has a guide.
        """
        records = [*read_records(data_root(self.root), self.train_manifest), *self._valid_records()]
        roots = [self._mixed_in(place) for place in self.mix]
        mixed = [read_records(more, self.train_manifest) for more in roots]
        for some in (records, *mixed):
            refuse_other_framing(some, self._spec.framing)
        if self._mesh_cache is not None:
            self._mesh_cache.extract(records)
            for more, some in zip(roots, mixed, strict=True):
                MeshCache(more, self.meshes).extract(some)

    @property
    def _spec(self) -> PortraitSpec:
        if self._given_spec is None:
            raise ValueError("PortraitData(spec=...) is missing: give the stage's data_spec")
        return self._given_spec

    @property
    def _guided(self) -> bool:
        return self._spec.guide

    @functools.cached_property
    def _mesh_cache(self) -> MeshCache | None:
        """One cache for all datasets, so that every clip is hashed once."""
        return MeshCache(data_root(self.root), self.meshes) if self._guided else None

    def setup(self, stage: str) -> None:
        """Build the datasets."""
        root = data_root(self.root)
        size = self._spec.image_size
        capacity = self.cached_megabytes * 10**6 // (1 + len(self.mix))
        clips = ClipCache(root, size, capacity)
        if stage == "fit":
            sets = [self._pairs(root, clips, self._mesh_cache)]
            for place in self.mix:
                more = self._mixed_in(place)
                cache = MeshCache(more, self.meshes) if self._guided else None
                sets.append(self._pairs(more, ClipCache(more, size, capacity), cache))
            weights = [1.0, *self.mix.values()]
            self.train_pairs = MixedPairs(sets, weights, self.seed) if self.mix else sets[0]
        context = self._spec.temporal_context
        sought = ClipCache(root, size, capacity=0)  # validation reads few frames: no cache
        self.fixed_pairs = FixedPairs(
            self._valid_records(), sought, self.valid_pairs, self._mesh_cache, context
        )

    def _valid_records(self) -> list[ClipRecord]:
        return spread(read_records(data_root(self.root), self.valid_manifest), self.valid_clips)

    def _mixed_in(self, place: str) -> Store:
        """The root of a data set of `mix`: below the root, else in the working directory."""
        inner = data_root(self.root).below(place)
        inside = not inner.remote and not Store(place).remote and Path(str(inner)).is_dir()
        return data_root(str(inner)) if inside else data_root(place)

    def _pairs(self, root: Store, clips: ClipCache, meshes: MeshCache | None) -> FramePairs:
        return FramePairs(
            read_records(root, self.train_manifest),
            clips,
            self.augmentation,
            self.balance,
            self.seed,
            meshes,
            self.cross_identity,
            self._spec.temporal_context,
        )

    def train_dataloader(self) -> DataLoader:
        """The training pairs, unlimited."""
        assert self.trainer is not None
        pairs, size = self.train_pairs, self.batch_size
        more = self._spec.accumulate, self.start_method
        return endless(pairs, size, self.workers, self.trainer, collate_pairs, *more)

    def val_dataloader(self) -> DataLoader:
        """The fixed pairs, in order."""
        assert self.trainer is not None
        pairs, size = self.fixed_pairs, self.batch_size
        return once(pairs, size, self.workers, self.trainer, collate_pairs, self.start_method)

    test_dataloader = val_dataloader
    predict_dataloader = val_dataloader
