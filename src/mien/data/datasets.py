"""Datasets of stage 1: pairs of distant frames of one clip.

A training sample is a pure function of (seed, sample number), independent of the worker, which
makes a resumed run equal an uninterrupted one. People are sampled before clips, because one speaker
may have most of the footage.
"""

from collections.abc import Sequence
from dataclasses import fields, replace
from itertools import islice, zip_longest
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import Dataset

from mien.audio.features import FPS
from mien.data.augment import AugmentConfig, augment_pair
from mien.data.clips import ClipCache, to_picture
from mien.data.guides import guide_of_pair
from mien.data.manifest import ClipRecord
from mien.data.meshes import MeshCache
from mien.mesh.guide import join_guides, no_guide
from mien.ops.warp import identity_grid
from mien.portrait.guide import warp_person_mask
from mien.types import FramePair

Batch = TypeVar("Batch")

_MIX = 0x3A1D  # seeds the choice of a data set independently of its samples

_GUESSED = 0.3  # loss weight where the motion of a made clip is only approximate

FAR_SECONDS = 0.4  # closer frames are nearly identical


def sample_generator(seed: int, index: int) -> torch.Generator:
    """The generator of one training sample; neighbouring seeds and indices are independent."""
    state = np.random.SeedSequence((seed, index)).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state) % 2**63)


def draw(count: int, generator: torch.Generator) -> int:
    """A uniform random index below `count`."""
    return int(torch.randint(count, (), generator=generator))


def by_identity(records: Sequence[ClipRecord]) -> list[list[ClipRecord]]:
    """The records of each person, people in alphabetical order."""
    people: dict[str, list[ClipRecord]] = {}
    for record in records:
        people.setdefault(record.identity, []).append(record)
    return [people[name] for name in sorted(people)]


def spread(records: Sequence[ClipRecord], count: int | None) -> list[ClipRecord]:
    """At most `count` clips (None: all), of as many people as there are, in the records' order.

    Every person's first clip is taken before anybody's second.
    """
    if count is None or count >= len(records):
        return list(records)
    rounds = zip_longest(*by_identity(records))
    in_turn = (record for clips in rounds for record in clips if record is not None)
    chosen = {record.path for record in islice(in_turn, count)}
    return [record for record in records if record.path in chosen]


class People:
    """The people of the records, sampled with probability proportional to (seconds) ** balance.

    Balance 0 weights every person equally, 1 every second of footage: in between, a speaker with
    most of the footage does not dominate the samples, and neither does a three-second clip.
    """

    def __init__(self, records: Sequence[ClipRecord], balance: float) -> None:
        self.people = by_identity(records)
        seconds = [sum(record.seconds for record in person) for person in self.people]
        self.chances = torch.tensor(seconds, dtype=torch.float64) ** balance

    def draw_clip(self, generator: torch.Generator) -> ClipRecord:
        """A person, then one of their clips."""
        person = self.people[int(torch.multinomial(self.chances, 1, generator=generator))]
        return person[draw(len(person), generator)]


def collate_pairs(pairs: Sequence[FramePair]) -> FramePair:
    """Join pairs along the batch axis; if any has a guide, the others get an empty one."""
    names = [f.name for f in fields(FramePair) if f.name != "guide"]
    joined: dict[str, Any] = {
        name: torch.cat([getattr(pair, name) for pair in pairs]) for name in names
    }
    if any(pair.guide for pair in pairs):
        size = pairs[0].source.shape[-1]
        joined["guide"] = join_guides([pair.guide or no_guide(size) for pair in pairs])
    return FramePair(**joined)


def mouth_map(record: ClipRecord, size: int) -> Float[Tensor, "1 h w"]:
    """1 inside the record's mouth box, falling smoothly to 0 around it; 0 if it is unknown."""
    if record.mouth is None:
        return torch.zeros(1, size, size)
    left, top, right, bottom = record.mouth
    centres = (torch.arange(size) + 0.5) / size
    softness = 0.02  # of the picture, about 5 pixels at 256

    def inside(low: float, high: float) -> Tensor:
        return torch.sigmoid((centres - low) / softness) * torch.sigmoid(
            (high - centres) / softness
        )

    return (inside(top, bottom)[:, None] * inside(left, right)[None, :])[None]


class FramePairs(Dataset[FramePair]):
    """Unlimited pairs: sample `index` is a person, one of their clips and two distant frames."""

    def __init__(
        self,
        records: Sequence[ClipRecord],
        clips: ClipCache,
        augmentation: AugmentConfig,
        balance: float,
        seed: int,
        meshes: MeshCache | None = None,
        cross_identity: float = 0.0,
        context: int = 0,
    ) -> None:
        self.people, self.context = People(records, balance), context
        self.clips, self.augmentation, self.seed = clips, augmentation, seed
        self.meshes, self.cross_identity = meshes, cross_identity
        self.groups: dict[int, list[ClipRecord]] = {}
        for record in records:
            if record.group is not None:
                self.groups.setdefault(record.group, []).append(record)

    def __getitem__(self, index: int) -> FramePair:
        generator = sample_generator(self.seed, index)
        record = self.people.draw_clip(generator)
        numbers = far_frames(record.frames, generator)
        around = frames_around(numbers[1], record.frames, self.context)
        pictures = to_picture(self.clips.frames_at(record, [*numbers, *around]))

        source, driving, neighbours = pictures[0], pictures[1], pictures[2:]
        mouth = mouth_map(record, self.clips.image_size)
        meshes = meshes_at(self.meshes, record, numbers)
        shown = window_of(numbers[1], around)
        double = self._double(record, shown, generator)
        pair = augment_pair(
            source, driving, mouth, self.augmentation, generator, meshes, double, neighbours
        )
        return pair if record.group is None else as_made(pair)

    def _double(
        self, record: ClipRecord, numbers: Sequence[int], generator: torch.Generator
    ) -> Float[Tensor, "n 3 h w"] | None:
        """With probability `cross_identity`, the same frames of another member of a made clip's
        group, who makes the same motion.
        """
        if record.group is None or torch.rand((), generator=generator) >= self.cross_identity:
            return None
        others = [r for r in self.groups[record.group] if r.identity != record.identity]
        if not others:
            return None
        other = others[draw(len(others), generator)]
        return to_picture(self.clips.frames_at(other, numbers))


class MixedPairs(Dataset[FramePair]):
    """Several data sets: each sample comes from one, chosen by weight."""

    def __init__(self, sets: Sequence[FramePairs], weights: Sequence[float], seed: int) -> None:
        self.sets, self.seed = sets, seed
        self.weights = torch.tensor(weights, dtype=torch.float64)

    def __getitem__(self, index: int) -> FramePair:
        generator = sample_generator(self.seed ^ _MIX, index)
        return self.sets[int(torch.multinomial(self.weights, 1, generator=generator))][index]


def as_made(pair: FramePair) -> FramePair:
    """A pair of a made clip: the motion of hair, neck and shoulders is only approximate, so they
    weigh less than the face, the mouth's interior and the background.
    """
    guide = pair.guide
    if guide is None:
        return pair
    face = torch.maximum(guide.skin, guide.mouth)
    person = torch.maximum(guide.person, warp_person_mask(guide, guide.displacement))
    pixel_weight = _GUESSED + (1 - _GUESSED) * torch.maximum(face, 1 - person)
    confidence = pair.displacement_confidence * pixel_weight[..., None]
    return replace(pair, pixel_weight=pixel_weight[:, None], displacement_confidence=confidence)


def meshes_at(
    cache: MeshCache | None, record: ClipRecord, numbers: Sequence[int]
) -> tuple[Float[Tensor, "468 3"], Float[Tensor, "468 3"]] | None:
    """The meshes of two frames; None where there is no cache or no face was found."""
    if cache is None:
        return None
    meshes = cache.read(record)
    if not bool(meshes.found[list(numbers)].all()):
        return None
    source, driving = meshes.points[list(numbers)]
    return source, driving


def far_frames(count: int, generator: torch.Generator) -> list[int]:
    """Two frame numbers at least FAR_SECONDS apart, or half the clip if that is shorter."""
    gap = min(round(FAR_SECONDS * FPS), count // 2)
    source = draw(count, generator)
    allowed = [i for i in range(count) if abs(i - source) >= gap]
    return [source, allowed[draw(len(allowed), generator)]]


def frames_around(number: int, count: int, context: int) -> list[int]:
    """The `context` frames before and after a frame, clamped to the clip."""
    steps = [*range(-context, 0), *range(1, context + 1)]
    return [min(max(number + step, 0), count - 1) for step in steps]


def window_of(number: int, around: Sequence[int]) -> list[int]:
    """A frame in the middle of those around it."""
    half = len(around) // 2
    return [*around[:half], number, *around[half:]]


class FixedPairs(Dataset[FramePair]):
    """Validation pairs without augmentation: a clip's first frame and later ones, evenly spaced."""

    def __init__(
        self,
        records: Sequence[ClipRecord],
        clips: ClipCache,
        pairs_per_clip: int,
        meshes: MeshCache | None = None,
        context: int = 0,
    ) -> None:
        self.records, self.clips, self.pairs_per_clip = records, clips, pairs_per_clip
        self.meshes, self.context = meshes, context

    def __len__(self) -> int:
        return len(self.records) * self.pairs_per_clip

    def __getitem__(self, index: int) -> FramePair:
        record = self.records[index // self.pairs_per_clip]
        part = (index % self.pairs_per_clip + 1) / self.pairs_per_clip
        numbers = [0, round(part * (record.frames - 1))]
        around = frames_around(numbers[1], record.frames, self.context)
        shown = window_of(numbers[1], around)
        pictures = to_picture(self.clips.frames_at(record, [*numbers, *shown]))
        source, driving, seen = pictures[:1], pictures[1:2], pictures[2:][None]
        mouth = mouth_map(record, self.clips.image_size)[None]
        size = source.shape[2:]
        nothing_known = torch.zeros(1, *size, 2), torch.zeros(1, *size, 1)
        meshes = meshes_at(self.meshes, record, numbers)
        still = identity_grid(*size, like=source)
        guide = meshes and guide_of_pair(meshes, (still, still), source[0])
        pixel_weight = torch.ones_like(mouth)
        return FramePair(source, driving, source, seen, mouth, *nothing_known, pixel_weight, guide)
