"""Where the eyes look, from the iris points that MediaPipe's landmarker adds to FaceMesh's 468.

Axes: t frames, n points, e expression axes of the model.
"""

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from mien.face.geometry import Array
from mien.face_model.correspondence import IRISES
from mien.face_model.parametric import EYES, FaceModel
from mien.face_model.residuals import Observations

_LIMITS = np.radians([40.0, 30.0])  # of yaw and pitch
_FULL = np.radians(30.0)  # the gaze at which an eyeLook axis is 1


def gaze_of(
    model: FaceModel,
    identity: Float[Array, " i"],
    observed: Observations,
    rotation: Rotation,
    translation: Float[Array, "t 3"],
) -> Float[Array, "t 2"]:
    """Yaw and pitch of both eyes together; zero where there are no iris points."""
    if model.points is None or observed.points.shape[1] <= max(IRISES):
        return np.zeros((len(observed.points), 2))
    directions = []
    sides = zip(eyeballs(model, identity), IRISES, model.points.iris_shifts, strict=True)
    for (middle, radius), iris, ahead in sides:
        place = rotation.apply(middle + ahead) + translation
        hit = _on_sphere(observed.camera.rays(observed.points[:, iris, :2]), place, radius)
        directions.append(rotation.inv().apply((hit - place) / radius))
    x, y, z = np.mean(directions, axis=0).T
    found = np.stack([np.arctan2(x, -z), np.arctan2(-y, np.hypot(x, z))], axis=1)
    return np.clip(found, -_LIMITS, _LIMITS)


def eyeballs(
    model: FaceModel, identity: Float[Array, " i"]
) -> list[tuple[Float[Array, " 3"], float]]:
    """The middle and the radius of a person's left and right eyeball (model axes, cm)."""
    shape, balls = model.shape(identity), []
    for name, center in zip(EYES, model.eye_centers, strict=True):
        ball = model.vertices_of(name)
        radius = float(-(model.neutral[ball] - center)[:, 2].min())
        balls.append((center + (shape[ball] - model.neutral[ball]).mean(axis=0), radius))
    return balls


def _on_sphere(
    rays: Float[Array, "t 3"], centers: Float[Array, "t 3"], radius: float
) -> Float[Array, "t 3"]:
    """Where rays from the camera meet spheres first; of those that miss, what is nearest."""
    along = (rays * centers).sum(axis=1)
    inside = np.square(along) - np.square(centers).sum(axis=1) + radius**2
    hit = (along - np.sqrt(np.maximum(inside, 0)))[:, None] * rays - centers
    return centers + radius * hit / np.linalg.norm(hit, axis=1, keepdims=True)


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
