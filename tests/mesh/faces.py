"""Faces for tests: the mean face in a picture, with a mouth that opens and a head that turns."""

import numpy as np

from mien.mesh.alignment import HeadPose
from mien.mesh.motion import rotation_of
from mien.mesh.topology import LIP_RINGS, mean_face

SIZE = 256


def open_mouth(face: np.ndarray, gap: float) -> np.ndarray:
    """The face with its lower lip dropped by `gap` (eye distances) more."""
    opened = face.copy()
    for ring in LIP_RINGS:
        for i in range(11, 20):
            opened[ring[i], 1] += gap * np.sin(np.pi * (i - 10) / 10)
    return opened


def smile(face: np.ndarray, wider: float = 0.15, higher: float = 0.08) -> np.ndarray:
    """The face with wider lips, their corners raised, and a little open."""
    smiling = open_mouth(face, 0.1)
    lips = [point for ring in LIP_RINGS for point in ring]
    aside = smiling[lips, 0] / np.abs(smiling[lips, 0]).max()
    smiling[lips, 0] += wider * aside
    smiling[lips, 1] -= higher * aside**2
    return smiling


def person(seed: int) -> np.ndarray:
    """Somebody else: the mean face, stretched and with a mouth of another width."""
    random = np.random.default_rng(seed)
    face = mean_face() * random.normal(1, 0.05, 3)
    lips = [point for ring in LIP_RINGS for point in ring]
    face[lips, 0] *= random.uniform(0.85, 1.15)
    return face


def in_picture(face: np.ndarray, turn=(0.0, 0.0, 0.0), scale: float = 62.0) -> np.ndarray:
    """Head coordinates to pixels of a portrait, the head turned (radians about x, y, z)."""
    pose = HeadPose(scale, rotation_of(np.array(turn, float)), np.array([128.0, 118.0, 0.0]))
    return pose.to_picture(face)
