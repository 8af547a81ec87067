"""Head pose, separated from expression: similarity fit to the mean face.

Axes: t frames, n points. Picture coordinates are pixels; head coordinates have the mean face's
origin and axes and the distance of the eyes as unit.
"""

import functools
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from mien.face.geometry import Array
from mien.mesh.topology import EYE_CORNERS, STABLE, Points, mean_face


@dataclass(frozen=True)
class HeadPose:
    """picture = scale * rotation @ head + shift."""

    scale: float
    rotation: Float[Array, "3 3"]
    shift: Float[Array, " 3"]

    def to_head(self, points: Float[Array, "n 3"]) -> Float[Array, "n 3"]:
        """Picture to head coordinates."""
        return (points - self.shift) @ self.rotation / self.scale

    def to_picture(self, points: Float[Array, "n 3"]) -> Float[Array, "n 3"]:
        """Head to picture coordinates."""
        return self.scale * points @ self.rotation.T + self.shift


def head_pose(points: Points) -> HeadPose:
    """The head pose: the mean face fitted to the stable points. Those of the last few faces are
    kept, since a frame's and its source's are asked for several times.
    """
    return _kept_pose(points.astype(np.float64, copy=False).tobytes())


@functools.lru_cache(maxsize=32)
def _kept_pose(points: bytes) -> HeadPose:
    pose = fit(np.frombuffer(points).reshape(-1, 3), mean_face())
    for array in (pose.rotation, pose.shift):
        array.setflags(write=False)  # all who ask get the same
    return pose


def fit(points: Points, face: Points) -> HeadPose:
    """The similarity that fits the stable points of `face` to these (Umeyama 1991)."""
    return similarity(points[list(STABLE)], face[list(STABLE)])


def similarity(wanted: Float[Array, "n 3"], known: Float[Array, "n 3"]) -> HeadPose:
    """The least-squares similarity that fits `known` to `wanted`."""
    middle, origin = wanted.mean(axis=0), known.mean(axis=0)
    wanted, known = wanted - middle, known - origin
    u, strength, vt = np.linalg.svd(wanted.T @ known)
    proper = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    rotation = (u * proper) @ vt
    scale = float((strength * proper).sum() / np.square(known).sum())
    return HeadPose(scale, rotation, middle - scale * rotation @ origin)


def eye_distance(points: Float[Array, "n 3"]) -> float:
    """Between the middles of both eyes."""
    a, b, c, d = (points[i] for i in EYE_CORNERS)
    return float(np.linalg.norm((c + d) / 2 - (a + b) / 2))
