"""A cache of face meshes: FaceMesh's landmarks in every frame of a clip, named by content.

Axes: t video frames. Points are shares of the picture's side, x before y; z is in the same unit.
"""

import functools
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from safetensors.torch import load, save
from torch import Tensor
from tqdm import tqdm

from mien.data.contents import Contents
from mien.data.manifest import ClipRecord
from mien.data.store import Store
from mien.face import FaceMesh
from mien.media import read_frames
from mien.mesh.alignment import HeadPose
from mien.mesh.motion import MESH_DIM, as_vectors, read_motion
from mien.ops.interpolation import at_frames

HELD = 100_000_000  # bytes of meshes that each process keeps in memory (least recently used)
SURE = 0.99  # least probability of a face by FaceMesh
_LOW, _SPAN = -0.5, 2.0  # points are stored in 16 bits over this range: steps of 0.01 pixels at 256


@dataclass(frozen=True)
class ClipMeshes:
    """The landmarks of one clip; invalid where `found` is False."""

    points: Float[Tensor, "t 468 3"]
    found: Bool[Tensor, " t"]


class MeshCache:
    """Meshes in a folder, one file per clip, named by its content hash: a changed clip is tracked
    again, and equal clips of two data sets only once.
    """

    def __init__(self, root: Path | Store, folder: Path | Store) -> None:
        self.root, self.folder = Store(root), Store(folder)
        self._contents = Contents(root, folder)
        self._names: dict[str, str] = {}
        self._held: OrderedDict[str, ClipMeshes] = OrderedDict()

    def extract(self, records: Sequence[ClipRecord]) -> None:
        """Track the clips that are not in the cache, with a progress bar."""
        self._contents.learn(records)
        there = self.folder.names()
        missing = [record for record in records if self._name(record) not in there]
        for record in tqdm(missing, "meshes of clips", unit="clip", disable=not missing):
            with self.root.file(record.path) as path:
                self.folder.write(
                    self._name(record), save(_packed(track_meshes(face_mesh(), read_frames(path))))
                )

    def meshes(self, record: ClipRecord) -> ClipMeshes:
        """The cached meshes of a clip; `extract` must have been called."""
        if record.path not in self._held:
            saved = load(self.folder.read(self._name(record)))
            whole = (saved["points"].int() & 0xFFFF).float()
            points = whole / 0xFFFF * _SPAN + _LOW
            self._held[record.path] = ClipMeshes(points, saved["found"])
            while len(self._held) > 1 and sum(m.points.nbytes for m in self._held.values()) > HELD:
                self._held.popitem(last=False)
        self._held.move_to_end(record.path)
        return self._held[record.path]

    def keep(self, record: ClipRecord, meshes: ClipMeshes) -> None:
        """Store meshes of a clip that are known without tracking."""
        self.folder.write(self._name(record), save(_packed(meshes)))

    def has(self, record: ClipRecord) -> bool:
        """Are this clip's meshes in the cache?"""
        return self.folder.has(self._name(record))

    def _name(self, record: ClipRecord) -> str:
        if record.path not in self._names:
            self._names[record.path] = f"{self._contents.of(record)}.safetensors"
        return self._names[record.path]


@functools.cache
def face_mesh() -> FaceMesh:
    """FaceMesh's nets, loaded once in a process."""
    return FaceMesh()


def track_meshes(mesh: FaceMesh, frames: Iterable[UInt8[np.ndarray, "h w 3"]]) -> ClipMeshes:
    """Find the landmarks of the largest face in every frame of a clip."""
    points, found = [], []
    for frame in frames:
        faces = mesh.faces(frame)
        here, sure = mesh.landmarks(frame, faces[0]) if faces else (np.zeros((468, 3)), 0.0)
        points.append(here / frame.shape[1])
        found.append(sure >= SURE)
    return ClipMeshes(torch.from_numpy(np.stack(points)).float(), torch.tensor(found))


def mesh_motion(meshes: ClipMeshes, still: HeadPose | None = None) -> Float[Tensor, "t k"]:
    """The clip's MeshMotion as MESH_DIM values per frame; frames without a face are interpolated,
    and a clip without any face has zero motion. `still` as in `read_motion`.
    """
    found = meshes.found.numpy()
    if not found.any():
        return torch.zeros(len(found), MESH_DIM)
    seen = as_vectors(read_motion(meshes.points[meshes.found].double().numpy(), still))
    filled = at_frames(seen, np.flatnonzero(found), np.arange(len(found)))
    return torch.from_numpy(filled).float()


def _packed(meshes: ClipMeshes) -> dict[str, Tensor]:
    whole = ((meshes.points - _LOW) / _SPAN).clamp(0, 1) * 0xFFFF
    return {"points": whole.round().int().to(torch.int16), "found": meshes.found}
