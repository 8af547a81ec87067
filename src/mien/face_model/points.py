"""FaceMesh's points of a face whose coefficients are known: the inverse of fitting.

Axes: t frames, m points.
"""

import numpy as np
from jaxtyping import Float

from mien.errors import UserError
from mien.face.geometry import Array
from mien.face_model.coefficients import FaceCoefficients
from mien.face_model.correspondence import DEPTH
from mien.face_model.parametric import FaceModel, rotation_matrices
from mien.mesh.topology import POINTS


def points_of(
    model: FaceModel, coefficients: FaceCoefficients, count: int = POINTS
) -> Float[Array, "t m 3"]:
    """The 468 points of every frame in pixels of the clip's picture, as FaceMesh would see them
    (depth in pixels too, from the head's middle, nearer is smaller), or as the landmarker would
    that gives `count` points.

    Raises:
        UserError: the model's file does not say where they are.
    """
    if model.points is None:
        raise UserError("this face model has no FaceMesh points: make its file again with them")
    turn = rotation_matrices(coefficients.rotation) * coefficients.scale
    shifts = model.points.shifts_of(count) @ turn.transpose(0, 2, 1)
    placed = model.points.read(model.in_camera(coefficients)).astype(np.float64) + shifts
    camera, depth = coefficients.camera, coefficients.translation[:, None, 2:]
    scale = camera.focal * max(camera.width, camera.height) / depth
    relative = (placed[..., 2:] - depth) * scale / DEPTH[2]
    return np.concatenate([camera.project(placed)[..., :2], relative], axis=2)
