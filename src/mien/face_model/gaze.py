"""Where the eyes look, from the iris points that MediaPipe's landmarker adds to FaceMesh's 468.

Axes: t frames, n points, e expression axes of the model.
"""

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from mien.face.geometry import Array
from mien.face_model.correspondence import IRISES
from mien.face_model.parametric import EYES, FaceModel
from mien.face_model.residuals import Sight

_LIMITS = np.radians([40.0, 30.0])  # of yaw and pitch
_FULL = np.radians(30.0)  # the gaze at which an eyeLook axis is 1


def gaze_of(
    model: FaceModel,
    identity: Float[Array, " i"],
    sight: Sight,
    rotation: Rotation,
    translation: Float[Array, "t 3"],
) -> Float[Array, "t 2"]:
    """Yaw and pitch of both eyes together; zero where there are no iris points."""
    if model.points is None or sight.points.shape[1] <= max(IRISES):
        return np.zeros((len(sight.points), 2))
    directions = []
    shape = model.shape(identity)
    sides = zip(EYES, model.eye_centers, IRISES, model.points.iris_shifts, strict=True)
    for name, center, iris, ahead in sides:
        ball = model.vertices_of(name)
        arms = model.neutral[ball] - center
        radius = float(-arms[:, 2].min())
        moved = (shape[ball] - model.neutral[ball]).mean(axis=0)
        place = rotation.apply(center + moved + ahead) + translation
        scale = (sight.focal / place[:, 2])[:, None]
        across = (sight.points[:, iris, :2] - sight.camera.project(place)[:, :2]) / scale / radius
        across *= np.minimum(1, 0.95 / np.maximum(np.linalg.norm(across, axis=1), 1e-6))[:, None]
        depth = -np.sqrt(1 - np.square(across).sum(axis=1, keepdims=True))
        directions.append(rotation.inv().apply(np.concatenate([across, depth], axis=1)))
    x, y, z = np.mean(directions, axis=0).T
    found = np.stack([np.arctan2(x, -z), np.arctan2(-y, np.hypot(x, z))], axis=1)
    return np.clip(found, -_LIMITS, _LIMITS)


def lids_of(model: FaceModel, eyes: Float[Array, "t 2"]) -> Float[Array, "t e"]:
    """The eyeLook axes for a gaze: lids and skin go with the eyeballs."""
    left, up = (eyes / _FULL).T  # to the picture's right is to the person's left
    values = {
        **{"eyeLookOutLeft": left, "eyeLookInRight": left},
        **{"eyeLookInLeft": -left, "eyeLookOutRight": -left},
        **{f"eyeLookUp{side}": up for side in ("Left", "Right")},
        **{f"eyeLookDown{side}": -up for side in ("Left", "Right")},
    }
    found = np.zeros((len(eyes), len(model.expression_names)))
    for n, name in enumerate(model.expression_names):
        if name in values:
            found[:, n] = np.clip(values[name], *model.expression_range[n])
    return found
