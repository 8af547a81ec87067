"""A cache of face meshes: FaceMesh's landmarks in every frame of a clip, named by content.

Axes: t video frames. Points are shares of the picture's side, x before y; z is in the same unit.
"""

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from safetensors.torch import load, save
from torch import Tensor

from mien.data.clip_files import ClipFiles
from mien.face import FaceMesh
from mien.media import read_frames
from mien.mesh.alignment import HeadPose
from mien.mesh.motion import MESH_DIM, as_vectors, read_motion
from mien.ops.interpolation import at_frames

SURE = 0.99  # least probability of a face by FaceMesh
_LOW, _SPAN = -0.5, 2.0  # points are stored in 16 bits over this range: steps of 0.01 pixels at 256


@dataclass(frozen=True)
class ClipMeshes:
    """The landmarks of one clip; invalid where `found` is False."""

    points: Float[Tensor, "t 468 3"]
    found: Bool[Tensor, " t"]


class MeshCache(ClipFiles[ClipMeshes]):
    """Meshes of clips in a folder (`ClipFiles`)."""

    title, suffix = "meshes of clips", ".safetensors"

    def compute(self, path: Path) -> ClipMeshes:
        """The meshes of a clip's file."""
        return track_meshes(face_mesh(), read_frames(path))

    def pack(self, value: ClipMeshes) -> bytes:
        """Points as 16-bit numbers, as safetensors."""
        whole = ((value.points - _LOW) / _SPAN).clamp(0, 1) * 0xFFFF
        return save({"points": whole.round().int().to(torch.int16), "found": value.found})

    def unpack(self, path: Path) -> ClipMeshes:
        """The meshes of a packed file."""
        saved = load(path.read_bytes())
        whole = (saved["points"].int() & 0xFFFF).float()
        return ClipMeshes(whole / 0xFFFF * _SPAN + _LOW, saved["found"])

    def size(self, value: ClipMeshes) -> int:
        """Bytes of the points."""
        return value.points.nbytes


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
