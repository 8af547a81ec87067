"""The points of the face in every frame of a clip, as FaceMesh sees them.

Axes: t video frames, h w space. Positions are pixels.
"""

from collections.abc import Iterable

import numpy as np
from jaxtyping import Float, UInt8

from mien.errors import UserError
from mien.face import FaceMesh, lip_gap

Points = Float[np.ndarray, "t 468 3"]
LEAST_SEEN = 0.5  # share of frames that must show a face


def track(mesh: FaceMesh, frames: Iterable[UInt8[np.ndarray, "h w 3"]]) -> Points:
    """The points of the largest face in each frame, x y and depth; frames without one lie between
    their neighbours. NaN throughout where less than half of the frames show a face.
    """
    found = [points_of(mesh, frame) for frame in frames]
    seen = np.array([points is not None for points in found])
    if not len(found) or seen.mean() < LEAST_SEEN:
        return np.full((len(found), 468, 3), np.nan, np.float32)
    known = np.stack([points for points in found if points is not None])
    if seen.all():
        return known
    place = np.interp(np.arange(len(found)), np.flatnonzero(seen), np.arange(len(known)))
    before = np.floor(place).astype(int)
    share = (place - before)[:, None, None]
    after = np.minimum(before + 1, len(known) - 1)
    return ((1 - share) * known[before] + share * known[after]).astype(np.float32)


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
