"""Mesh motion independent of identity: a driver's motion relative to its own neutral face.

Axes: t video frames, k values of a motion vector. Points are the 468 of FaceMesh.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float

from mien.face.geometry import Array
from mien.mesh.alignment import HeadPose, head_pose
from mien.mesh.neutral import middle_gap, neutral, proportion, rest_of
from mien.mesh.topology import POINTS, Points

POSE_DIM = 6  # turn, shift, zoom
MESH_DIM = POINTS * 3 + POSE_DIM  # numbers of a frame's MeshMotion
NECK = np.array([0.0, 0.6, 0.5])  # what heads turn about, in head coordinates


@dataclass(frozen=True)
class MeshMotion:
    """Facial motion independent of identity: differences from neutral, and the head's motion.

    `offsets` are in head coordinates of a mouth as wide as the mean face's; `turn` is a rotation
    vector (radians), `shift` is in eye distances of the picture and `zoom` the log of the scale,
    all relative to the pose at rest.
    """

    offsets: Float[Array, "t 468 3"]
    turn: Float[Array, "t 3"]
    shift: Float[Array, "t 2"]
    zoom: Float[Array, " t"]


def as_vectors(motion: MeshMotion) -> Float[Array, "t k"]:
    """The motion as MESH_DIM values per frame: offsets, turn, shift, zoom."""
    flat = motion.offsets.reshape(len(motion.offsets), -1)
    return np.concatenate([flat, motion.turn, motion.shift, motion.zoom[:, None]], axis=1)


def from_vectors(numbers: Float[Array, "t k"]) -> MeshMotion:
    """The inverse of as_vectors."""
    offsets, pose = numbers[:, :-POSE_DIM], numbers[:, -POSE_DIM:]
    return MeshMotion(offsets.reshape(-1, POINTS, 3), pose[:, :3], pose[:, 3:5], pose[:, 5])


def read_motion(
    track: Float[Array, "t 468 3"], still: HeadPose | None = None, rest: Points | None = None
) -> MeshMotion:
    """The motion of a clip's face, from its points in pixels, relative to its own rest.

    The head's moves are those from the pose `still`: without it, from the clip's own at rest.
    `rest` are the points of the face at rest, where they are known.
    """
    poses = [head_pose(points) for points in track]
    heads = np.stack([pose.to_head(points) for pose, points in zip(poses, track, strict=True)])
    own = neutral(rest_of(heads) if rest is None else head_pose(rest).to_head(rest))
    offsets = (heads - own) / proportion(own)[:, None]
    start = still or poses[int(np.argmin(middle_gap(heads)))]
    moves = [_pose_move(start, pose) for pose in poses]
    turn, shift, zoom = (np.array(part) for part in zip(*moves, strict=True))
    return MeshMotion(offsets, turn, shift, zoom)


def rotation_of(turn: Float[Array, " 3"]) -> Float[Array, "3 3"]:
    """A rotation vector as a matrix (Rodrigues)."""
    return cv2.Rodrigues(turn.astype(np.float64))[0]


def _pose_move(
    still: HeadPose, pose: HeadPose
) -> tuple[Float[Array, " 3"], Float[Array, " 2"], float]:
    turn = cv2.Rodrigues(still.rotation.T @ pose.rotation)[0][:, 0]
    necks = [p.to_picture(NECK[None])[0] for p in (still, pose)]
    return turn, (necks[1] - necks[0])[:2] / still.scale, float(np.log(pose.scale / still.scale))
