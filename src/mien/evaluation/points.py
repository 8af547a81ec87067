"""The landmarks of the face in every frame of a clip, as FaceMesh finds them.

Axes: t video frames, h w space. Positions are pixels.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

from mien.errors import UserError
from mien.evaluation.series import Series
from mien.face import FaceMesh, lip_gap, mouth_width
from mien.ops.interpolation import at_frames

Points = Float[np.ndarray, "t 468 3"]
LEAST_SEEN = 0.5  # share of frames that must show a face


@dataclass(frozen=True)
class Mouth:
    """Gap between the inner lips and distance of the corners, each over that of the eyes."""

    gap: Series
    width: Series

    def __len__(self) -> int:
        return len(self.gap)


def mouth_of(points: Points) -> Mouth:
    """The mouth in every frame; NaN where the points are."""
    gap = np.array([lip_gap(frame) for frame in points], dtype=np.float64)
    return Mouth(gap, np.array([mouth_width(frame) for frame in points], dtype=np.float64))


def track(mesh: FaceMesh, frames: Iterable[UInt8[np.ndarray, "h w 3"]]) -> Points:
    """The landmarks of the largest face in each frame, x y and depth; frames without a face are
    interpolated. NaN throughout if less than half of the frames show a face.
    """
    found = [points_of(mesh, frame) for frame in frames]
    seen = np.array([points is not None for points in found])
    if not len(found) or seen.mean() < LEAST_SEEN:
        return np.full((len(found), 468, 3), np.nan, np.float32)
    known = np.stack([points for points in found if points is not None])
    return at_frames(known, np.flatnonzero(seen), np.arange(len(seen)))


def track_known(mesh: FaceMesh, frames: Iterable[UInt8[np.ndarray, "h w 3"]], name: str) -> Points:
    """As `track`, of footage that must show a face.

    Raises:
        UserError: less than half of the frames do.
    """
    points = track(mesh, frames)
    if not np.isfinite(points).all():
        raise UserError(f"{name} shows no face in most of its frames: leave it out")
    return points


def points_of(
    mesh: FaceMesh, frame: UInt8[np.ndarray, "h w 3"]
) -> Float[np.ndarray, "468 3"] | None:
    """The points of the largest face, or nothing."""
    faces = mesh.faces(frame)
    return mesh.landmarks(frame, faces[0])[0] if faces else None


def mouth_opening(mesh: FaceMesh, frame: UInt8[np.ndarray, "h w 3"]) -> float:
    """The gap between the inner lips over the distance between the eyes; NaN without a face."""
    points = points_of(mesh, frame)
    return float("nan") if points is None else lip_gap(points)
