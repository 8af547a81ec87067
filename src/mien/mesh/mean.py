"""The mean face: the Procrustes mean of many faces, upright, with closed lips.

Axes: n faces, m points. Made once by tools/make_mean_face.py.
"""

import numpy as np
from jaxtyping import Float

from mien.face.geometry import Array
from mien.mesh.alignment import eye_distance, fit
from mien.mesh.topology import EYE_CORNERS, POINTS, STABLE

_ROUNDS = 4  # of laying faces over their mean; it changes no more after that
_QUIET = 0.25  # the share of faces whose lips are nearest each other


def mean_at_rest(faces: Float[Array, "n m 3"]) -> Float[Array, "m 3"]:
    """The mean of FaceMesh's points, and of any after them, over the quarter of faces with the
    smallest lip gaps, after Procrustes.
    """
    gaps = np.array([np.linalg.norm(f[14] - f[13]) / eye_distance(f) for f in faces])
    closed = faces[np.argsort(gaps, kind="stable")[: max(1, round(_QUIET * len(faces)))]]
    mean = _upright(closed[0])
    for _ in range(_ROUNDS):
        mean = _upright(
            np.mean([fit(face[:POINTS], mean[:POINTS]).to_head(face) for face in closed], axis=0)
        )
    return mean


def _upright(face: Float[Array, "m 3"]) -> Float[Array, "m 3"]:
    """Eyes level and chin below them, unit eye distance, the stable points' middle as origin."""
    across = face[EYE_CORNERS[3]] - face[EYE_CORNERS[0]]
    across = across / np.linalg.norm(across)
    down = face[152] - face[10]
    down = down - across * (across @ down)
    down = down / np.linalg.norm(down)
    turned = face @ np.stack([across, down, np.cross(across, down)], axis=1)
    turned = turned / eye_distance(turned)
    return turned - turned[list(STABLE)].mean(axis=0)
