"""Retargeting of one person's motion to another face: neutral portrait, target, place, guide.

Faces are compared in head coordinates (`mien.mesh.alignment`), each relative to its own neutral
state, in which lips are closed and smiles relaxed. The difference from neutral is transferred, so
that closed lips stay closed on any face.
Axes: t video frames. Points are the 468 of FaceMesh.
"""

import functools
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from mien.face import Scene
from mien.face.geometry import Array
from mien.mesh.alignment import HeadPose, head_pose
from mien.mesh.guide import guides_between
from mien.mesh.motion import NECK, MeshMotion, rotation_of
from mien.mesh.neutral import lip_gaps, mouth_ratio, neutral, proportion
from mien.mesh.topology import LIDS, LIP_RINGS, Points
from mien.types import Guide

# How much of a missing lip gap each ring of points opens, outermost first, and the points of upper
# and lower lip that face each other.
_OPENS = np.array((0.5, 0.8, 1.0, 1.0))[:, None]
_UPPER_LIP, _LOWER_LIP = np.array(LIP_RINGS)[:, 1:10], np.array(LIP_RINGS)[:, :10:-1]
_UPPER = 0.35  # the upper lip's part of a missing gap; the lower one does the rest

_WIDE = 0.4  # eye distances: the gap that a contrast of lips leaves as it is
_UPPER_LID = 0.9  # the upper lid's part of a blink


@dataclass(frozen=True)
class PortraitMesh:
    """A portrait's points (pixels), where its head is, and its neutral face."""

    points: Points
    pose: HeadPose
    head: Points
    neutral: Points

    @classmethod
    def of(cls, points: Points) -> "PortraitMesh":
        """Read a portrait's points."""
        pose = head_pose(points)
        head = pose.to_head(points)
        return cls(points, pose, head, neutral(head))

    @functools.cached_property
    def _to_mean_face(self) -> tuple[Float[Array, "n 1"], float]:
        """By what a motion of the mean face and a gap of its lips are multiplied."""
        return proportion(self.neutral)[:, None], mouth_ratio(self.neutral)

    def target(self, offsets: Points, blink: float = 0.0, contrast: float = 1.0) -> Points:
        """The face with a driver's difference from neutral, in head coordinates.

        Lips are moved in proportion to the two mouths' widths, their gaps exactly so. `blink` shuts
        the lids on top, 1 wholly. `contrast` above 1 brings lips that nearly touch nearer still.
        """
        shares, ratio = self._to_mean_face
        face = self.neutral + offsets * shares
        wanted = _WIDE * (np.maximum(0.0, lip_gaps(offsets[None])[0]) / _WIDE) ** contrast
        wanted = wanted * ratio
        missing = wanted - lip_gaps(face[None])[0]
        face[_UPPER_LIP, 1] -= _OPENS * _UPPER * missing
        face[_LOWER_LIP, 1] += _OPENS * (1 - _UPPER) * missing
        for upper, lower in (map(list, lids) for lids in LIDS):
            gap = face[lower] - face[upper]
            face[upper] += blink * _UPPER_LID * gap
            face[lower] -= blink * (1 - _UPPER_LID) * gap
        return face

    def place(
        self, face: Points, turn: Float[Array, " 3"], shift: Float[Array, " 2"], zoom: float
    ) -> Points:
        """The face in the picture, its head moved from where the portrait has it."""
        turned = (face - NECK) @ rotation_of(turn).T * np.exp(zoom) + NECK
        placed = self.pose.to_picture(turned)
        placed[:, :2] += shift * self.pose.scale
        return placed


def retarget(
    portrait: PortraitMesh,
    motion: MeshMotion,
    blinks: Float[Array, " t"] | None = None,
    contrast: float = 1.0,
) -> Float[Array, "t 468 3"]:
    """The portrait's points in every frame, pixels; `blinks` and `contrast` as `target` says."""
    shut = np.zeros(len(motion.zoom)) if blinks is None else blinks
    given = zip(motion.offsets, shut, strict=True)
    faces = [portrait.target(offsets, float(s), contrast) for offsets, s in given]
    moves = zip(faces, motion.turn, motion.shift, motion.zoom, strict=True)
    return np.stack([portrait.place(face, turn, by, float(z)) for face, turn, by, z in moves])


@runtime_checkable
class Interior(Protocol):
    """What draws the inside of a portrait's mouth (`mien.face_model.mouth.MouthInterior`)."""

    def draw_into(self, points: Points, picture: Float[Array, "4 h w"]) -> None:
        """Draw RGB in [-1, 1] and alpha in [0, 1] of a frame with these points (pixels) on a
        picture of zeros.
        """
        ...


def retargeted_guides(
    portrait: PortraitMesh,
    motion: MeshMotion,
    size: int,
    interior: Interior | None = None,
    blinks: Float[Array, " t"] | None = None,
    scene: Scene | None = None,
    contrast: float = 1.0,
) -> Guide:
    """A guide for each frame (batch axis: t), with the mouth's inside where `interior` draws it.

    `scene` is the separated person and background of the portrait, if known.
    """
    moved, inside = retarget(portrait, motion, blinks, contrast), None
    if interior is not None:
        inside = np.zeros((len(moved), 4, size, size), np.float32)
        for points, picture in zip(moved, inside, strict=True):
            interior.draw_into(points, picture)
    return guides_between(portrait.points, moved, size, inside, scene)
