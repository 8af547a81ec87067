"""`mien make-pairs PORTRAITS CLIPS -o DATASET`: motion of filmed people transferred to portraits.

The data set is like any other: clips, train.jsonl, and the meshes, which are known exactly. Clips
that exist are not made again.
"""

import functools
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from mien.audio.features import SAMPLES_PER_FRAME
from mien.command_line import Parser, positive, run_guarded, seed
from mien.data.manifest import ClipRecord, write_manifest
from mien.data.meshes import ClipMeshes, MeshCache, mesh_motion
from mien.data.records import data_root, read_records
from mien.errors import UserError
from mien.face import mouth_box
from mien.make_pairs.drawing import moved_frames, moved_points
from mien.make_pairs.motions import draw_motion
from mien.make_pairs.portraits import (
    PortraitFile,
    group_people,
    list_portraits,
    read_portrait,
)
from mien.media import VideoWriter
from mien.mesh.motion import MeshMotion, from_vectors
from mien.prepare.engine import ALL_CORES, run_in_processes, workers_of
from mien.report import usable_cores
from mien.types import FPS

_MARGIN = 0.15  # of the lips' box: margin of a clip's mouth box
_KEY_EVERY = 4  # frames are in random order, and pairs of them are read by seeking
NOTE = "made by mien from one portrait: nobody was filmed"


@dataclass(frozen=True)
class Order:
    """One clip to make: who, like whom, under which name."""

    portrait: PortraitFile
    group: int
    name: str


@dataclass(frozen=True)
class Made:
    """The settings that make a clip, shared by all processes."""

    clips: Path
    motions: Path
    output: Path
    meshes: Path
    frames: int
    size: int
    seed: int

    @functools.cached_property
    def _drivers(self) -> tuple[list[ClipRecord], MeshCache]:
        """The clips that may move a portrait, and their meshes; read once in a process."""
        root = data_root(self.clips)
        talks = [record for record in read_records(root, self.motions) if record.sound]
        return talks, MeshCache(root, self.meshes)

    def driver(self, group: int) -> MeshMotion:
        """The motion of the clip that drives a group."""
        records, cache = self._drivers
        random = np.random.default_rng((self.seed, group))
        for place in random.permutation(len(records)):
            seen = cache.read(records[place])
            if bool(seen.found.any()):
                return from_vectors(mesh_motion(seen).double().numpy())
        raise UserError(f"no clip of {self.motions} shows a face: give other clips")

    def make(self, order: Order) -> ClipRecord | str:
        """Make one clip, or return why it cannot be made."""
        record, path = self._record(order), self.output / order.name
        if not (path.exists() and MeshCache(self.output, self.meshes).has(record)):
            try:
                portrait = read_portrait(order.portrait.path, self.size)
            except UserError as error:
                return str(error)
            random = np.random.default_rng((self.seed, order.group, 1))
            points = moved_points(
                portrait, draw_motion(self.driver(order.group), self.frames, random)
            )
            silence = torch.zeros(self.frames * SAMPLES_PER_FRAME)
            with VideoWriter(path, silence, NOTE, _KEY_EVERY) as writer:
                for frame in moved_frames(portrait, points):
                    writer.write(frame[None])
            shares = torch.from_numpy(points / self.size).float()
            meshes = ClipMeshes(shares, torch.ones(len(points)).bool())
            MeshCache(self.output, self.meshes).keep(record, meshes)
        return self._record(order, MeshCache(self.output, self.meshes).read(record))

    def _record(self, order: Order, meshes: ClipMeshes | None = None) -> ClipRecord:
        return ClipRecord(
            path=order.name,
            identity=order.portrait.identity,
            licence=order.portrait.licence,
            seconds=self.frames / FPS,
            frames=self.frames,
            mouth=None if meshes is None else _mouth(meshes),
            group=order.group,
        )


def _mouth(meshes: ClipMeshes) -> tuple[float, float, float, float]:
    """The box around the lips of all frames, shares of the picture's side."""
    boxes = np.array([mouth_box(points) for points in meshes.points.numpy()])
    (left, top), (right, bottom) = boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)
    more = _MARGIN * np.array([right - left, bottom - top])
    low, high = np.clip([(left, top) - more, (right, bottom) + more], 0, 1).tolist()
    return low[0], low[1], high[0], high[1]


def parser() -> Parser:
    """The arguments of `mien make-pairs`."""
    p = Parser(
        prog="mien make-pairs",
        description="Move still portraits by the motion of clips, and list them as a data set.",
    )
    p.add_argument("portraits", type=Path, help="a folder of pictures, one face each")
    p.add_argument("clips", type=Path, help="the data set whose people move them")
    p.add_argument("-o", "--output", type=Path, required=True, help="folder of the new data set")
    p.add_argument("--motions", type=Path, default=Path("train.jsonl"),
                   help="manifest of the moving clips (default train.jsonl)")  # fmt: skip
    p.add_argument("--meshes", type=Path, default=Path("runs/meshes"),
                   help="where meshes are kept (default runs/meshes)")  # fmt: skip
    p.add_argument("--frames", type=positive(int), default=12, help="of each clip (default 12)")
    p.add_argument("--group", type=positive(int), default=4,
                   help="people who make the same motions (default 4)")  # fmt: skip
    p.add_argument("--size", type=positive(int), default=256, help="pixels a side (default 256)")
    p.add_argument("--seed", type=seed, default=0, help="another seed, other motions")
    p.add_argument("--workers", type=workers_of, metavar="N|all", default=1,
                   help="processes (default 1)")  # fmt: skip
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return run_guarded(lambda: run(parser().parse_args(argv)), "the same command resumes")


def run(given: Namespace) -> None:
    """Make the clips that are missing, then list all.

    Raises:
        UserError: a folder cannot be used, or no portrait could be moved.
    """
    if given.size % 2:
        raise UserError(f"--size {given.size} is odd: H.264 needs an even number of pixels")
    groups = group_people(list_portraits(given.portraits), given.group, given.seed)
    orders = [
        Order(file, number, f"{number:05d}-{place}-{_mark(given, number, group)}.mp4")
        for number, group in enumerate(groups)
        for place, file in enumerate(group)
    ]
    given.output.mkdir(parents=True, exist_ok=True)
    MeshCache(data_root(given.clips), given.meshes).extract(
        read_records(data_root(given.clips), given.motions)
    )
    made = Made(given.clips, given.motions, given.output, given.meshes,
                given.frames, given.size, given.seed)  # fmt: skip
    records, failed = _make_all(made, orders, given.workers)
    if not records:
        raise UserError(f"no portrait of {given.portraits} could be moved: {failed[0]}")
    write_manifest(given.output / "train.jsonl", sorted(records, key=lambda r: r.path))
    print(f"{given.output}: {len(records)} clips of {len({r.identity for r in records})} people")
    for reason in failed:
        print(f"left out: {reason}")


def _mark(given: Namespace, number: int, group: Sequence[PortraitFile]) -> str:
    """A hash of what a clip depends on: with other portraits or settings it is made again."""
    people = [(f.path.name, f.path.stat().st_size, f.identity, f.licence) for f in group]
    numbers = given.motions.as_posix(), given.frames, given.size, given.seed, number
    return sha256(repr((people, numbers)).encode()).hexdigest()[:8]


def _make_all(
    made: Made, orders: Sequence[Order], workers: int
) -> tuple[list[ClipRecord], list[str]]:
    count = usable_cores() if workers == ALL_CORES else workers
    records, failed = [], []
    results = run_in_processes(functools.partial(_maker, made), orders, count)
    for order, result in tqdm(results, "portraits", total=len(orders), unit="portrait"):
        if isinstance(result, ClipRecord):
            records.append(result)
        else:
            failed.append(f"{order.portrait.path}: {result}")
    return records, sorted(failed)


def _maker(made: Made) -> Callable[[Order], ClipRecord | str]:
    return made.make
