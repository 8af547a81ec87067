"""Retargeting of one person's motion to another face: neutral portrait, target, place, guide.

Faces are compared in head coordinates (`mien.mesh.alignment`), each relative to its own neutral
state, in which lips are closed and smiles relaxed. The difference from neutral is transferred, so
that closed lips stay closed on any face.
Axes: t video frames. Points are the 468 of FaceMesh.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from mien.face import Scene
from mien.face.geometry import Array
from mien.mesh.alignment import HeadPose, head_pose
from mien.mesh.guide import guide_between, join_guides, with_scene
from mien.mesh.motion import NECK, MeshMotion, rotation_of
from mien.mesh.neutral import lip_gaps, mouth_ratio, neutral, proportion
from mien.mesh.topology import LIDS, LIP_RINGS, Points
from mien.types import Guide

# How much of a missing lip gap each ring of points opens, outermost first.
_OPENS = dict(zip(LIP_RINGS, (0.5, 0.8, 1.0, 1.0), strict=True))
_UPPER = 0.35  # the upper lip's part of it; the lower one does the rest

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

    def target(self, offsets: Points, blink: float = 0.0, contrast: float = 1.0) -> Points:
        """The face with a driver's difference from neutral, in head coordinates.

        Lips are moved in proportion to the two mouths' widths, their gaps exactly so. `blink` shuts
        the lids on top, 1 wholly. `contrast` above 1 brings lips that nearly touch nearer still.
        """
        face = self.neutral + offsets * proportion(self.neutral)[:, None]
        wanted = _WIDE * (np.maximum(0.0, lip_gaps(offsets[None])[0]) / _WIDE) ** contrast
        wanted = wanted * mouth_ratio(self.neutral)
        missing = wanted - lip_gaps(face[None])[0]
        for ring, share in _OPENS.items():
            for i, gap in zip(range(1, 10), missing, strict=True):
                face[ring[i], 1] -= share * _UPPER * gap
                face[ring[20 - i], 1] += share * (1 - _UPPER) * gap
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

    def draw(self, points: Points, size: int) -> Float[Array, "4 h w"]:
        """RGB in [-1, 1] and alpha in [0, 1] of a frame with these points (pixels)."""
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
    guides, moved = [], retarget(portrait, motion, blinks, contrast)
    for there in moved:
        drawn = None if interior is None else interior.draw(there, size)
        guides.append(guide_between(portrait.points, there, size, drawn))
    joined = join_guides(guides)
    return joined if scene is None else with_scene(joined, scene, moved)
