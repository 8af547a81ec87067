"""How far a fit is from the coefficients that a clip was made of.

Axes: t frames, e expression axes.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy.spatial.transform import Rotation

from mien.evaluation.metrics.head_pose import camera_side_angles
from mien.face.geometry import Array
from mien.face_model.coefficients import FaceCoefficients
from mien.face_model.parametric import FaceModel

_MOVED = 0.02  # largest value of an expression axis that is at rest


@dataclass(frozen=True)
class FitErrors:
    """Means over the frames of a clip.

    `rotation` is in degrees, `turn` the same of rotations since the first frame (which a constant
    error of the head's axes leaves as they are), `pitch` the mean error about the head's x axis
    alone (degrees; positive: fitted as if the head looked farther down). `picture` and `space` are
    distances of the face's skin in per cent of the distance of the eyes: in the picture, and
    between shapes (identity and expression) about their middles. `expression` is the absolute
    error over all axes, `active` over those that move, and `active_zero` what zeros would err by
    there.
    """

    rotation: float
    turn: float
    pitch: float
    picture: float
    space: float
    expression: float
    active: float
    active_zero: float

    @classmethod
    def of(cls, model: FaceModel, true: FaceCoefficients, found: FaceCoefficients) -> "FitErrors":
        """Compare the same frames of one clip."""
        ours, theirs = (Rotation.from_rotvec(c.rotation) for c in (true, found))
        away = np.abs(true.expression - found.expression)
        active = _moving(true.expression)
        eyes = np.linalg.norm(np.subtract(*model.eye_centers))
        return cls(
            rotation=float(np.degrees((ours * theirs.inv()).magnitude()).mean()),
            turn=float(camera_side_angles(true, found).mean()),
            pitch=float(np.degrees((ours.inv() * theirs).as_rotvec()[:, 0].mean())),
            picture=float(100 / eyes * _in_picture(model, true, found)),
            space=float(100 / eyes * _in_space(model, true, found)),
            expression=float(away.mean()),
            active=float(away[:, active].mean()) if active.any() else 0.0,
            active_zero=float(true.expression[:, active].mean()) if active.any() else 0.0,
        )


def _moving(expression: Float[Array, "t e"]) -> Bool[Array, " e"]:
    """Which axes leave rest."""
    return expression.max(axis=0) > _MOVED


def _in_picture(model: FaceModel, true: FaceCoefficients, found: FaceCoefficients) -> float:
    """Centimetres at the head's depth."""
    skin = model.vertices_of("face")
    side = max(true.camera.width, true.camera.height)
    scale = true.camera.focal * side / true.translation[:, None, 2:]
    flat = (model.project(true) - model.project(found))[:, skin, :2] / scale
    return float(np.linalg.norm(flat, axis=2).mean())


def _in_space(model: FaceModel, true: FaceCoefficients, found: FaceCoefficients) -> float:
    skin, still = model.vertices_of("face"), np.zeros_like(true.eyes)
    shapes = [
        (model.shape(c.identity) + model.offsets(c.expression, still))[:, skin]
        for c in (true, found)
    ]
    away = np.subtract(*(s - s.mean(axis=1, keepdims=True) for s in shapes))
    return float(np.linalg.norm(away, axis=2).mean())
