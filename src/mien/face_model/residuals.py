"""Gauss-Newton equations of a face model's points in pictures.

Residuals are in centimetres at the head's depth: x and y as pixels seen through the pinhole, and
the points' relative depth with a smaller weight. The scale of pixels is taken from each head's
depth as it is.
Axes: t frames, m points, q axes, p the six numbers of a pose (rotation, translation).
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from mien.face.geometry import Array
from mien.face_model.coefficients import Camera
from mien.face_model.correspondence import DEPTH
from mien.face_model.point_basis import PointBasis

POSE = 6
_DEPTH_WEIGHT = 0.1  # of FaceMesh's depth, which it guesses, against what it sees
# Centimetres: standard deviation of a point about the model's, had each an error of its own. The
# nets' errors are smaller but alike at neighbouring points, which together prove less than as many.
DEVIATION = 1.0


@dataclass(frozen=True)
class Equations:
    """The quadratic about the current values: `curvature` @ step = `gradient` (downhill)."""

    curvature: Float[Array, "t n n"]
    gradient: Float[Array, "t n"]


@dataclass(frozen=True)
class Observations:
    """What was seen of one person: pixels of the points (depth in pixels too), the camera, and the
    standard deviation of points about the model's (centimetres).
    """

    points: Float[Array, "t m 3"]
    camera: Camera
    deviation: float = DEVIATION

    @property
    def focal(self) -> float:
        """In pixels."""
        return self.camera.focal * max(self.camera.width, self.camera.height)

    def residuals(
        self,
        basis: PointBasis,
        placed: Float[Array, "t m 3"],
        translation: Float[Array, "t 3"],
    ) -> Float[Array, "t m 3"]:
        """Seen less modelled, in centimetres, for points in camera coordinates."""
        scale = (self.focal / translation[:, 2])[:, None, None]
        flat = self.camera.project(placed)[..., :2]
        depth = self.points[..., 2:] * (DEPTH[2] / scale) - placed[..., 2:]
        share = basis.weights / basis.weights.sum()
        depth = depth - np.einsum("tmx,m->tx", depth, share)[:, None]
        return np.concatenate([(self.points[..., :2] - flat) / scale, depth], axis=2)


def equations(
    basis: PointBasis,
    observed: Observations,
    heads: Float[Array, "t m 3"],
    rotation: Rotation,
    translation: Float[Array, "t 3"],
    count: int,
) -> Equations:
    """The equations of pose and of the first `count` axes, for points `heads` in model axes."""
    turn = rotation.as_matrix()
    arms = heads @ turn.transpose(0, 2, 1)
    placed = arms + translation[:, None]
    pull = _pulled(observed.residuals(basis, placed, translation), placed, translation)
    pull *= basis.weights[:, None]
    pose_gradient = np.concatenate([np.cross(arms, pull).sum(axis=1), pull.sum(axis=1)], axis=1)
    axes = basis.axes[:count].reshape(count, -1)
    axes_gradient = (pull @ turn).reshape(len(turn), -1) @ axes.T
    gradient = np.concatenate([pose_gradient, axes_gradient], axis=1)
    precision = 1 / observed.deviation**2
    curvature = _curvature(basis, arms, turn, translation, count)
    return Equations(precision * curvature, precision * gradient)


def _pulled(
    residual: Float[Array, "t m 3"],
    placed: Float[Array, "t m 3"],
    translation: Float[Array, "t 3"],
) -> Float[Array, "t m 3"]:
    """The residuals through the transposed Jacobian of projection: camera coordinates."""
    nearer = translation[:, None, 2:] / placed[..., 2:]
    across = residual[..., :2] * nearer
    along = -(across * placed[..., :2] / placed[..., 2:]).sum(axis=2, keepdims=True)
    return np.concatenate([across, along + _DEPTH_WEIGHT * residual[..., 2:]], axis=2)


def _curvature(
    basis: PointBasis,
    arms: Float[Array, "t m 3"],
    turn: Float[Array, "t 3 3"],
    translation: Float[Array, "t 3"],
    count: int,
) -> Float[Array, "t n n"]:
    """Products of the Jacobian's columns, in single precision: the gradient is the exact part."""
    t, m = arms.shape[:2]
    n = POSE + count
    placed = (arms + translation[:, None]).astype(np.float32)
    nearer = translation[:, 2:].astype(np.float32) / placed[..., 2]
    axes = basis.columns if count == len(basis.axes) else basis.expression_columns
    moved = np.empty((t, 3, m, n), np.float32)
    moved[..., :POSE] = _pose_columns(arms).transpose(0, 2, 1, 3)
    moved[..., POSE:] = (turn.astype(np.float32) @ axes).reshape(t, 3, m, count)
    for row in range(2):
        moved[:, row] -= (placed[..., row] / placed[..., 2])[..., None] * moved[:, 2]
    moved[:, :2] *= nearer[:, None, :, None]
    share = (basis.weights / basis.weights.sum()).astype(np.float32)
    moved[:, 2] -= (share @ moved[:, 2])[:, None]
    rows = np.sqrt(np.array([1, 1, _DEPTH_WEIGHT])[:, None] * basis.weights)
    moved *= rows.astype(np.float32)[..., None]
    flat = moved.reshape(t, 3 * m, n)
    return np.stack([frame.T @ frame for frame in flat]).astype(np.float64)


def _pose_columns(arms: Float[Array, "t m 3"]) -> Float[Array, "t m 3 p"]:
    """How points in the camera move with rotation and translation."""
    x, y, z = np.moveaxis(arms, -1, 0)
    moved = np.zeros((*arms.shape, POSE))
    moved[:, :, 1, 0], moved[:, :, 2, 0] = -z, y
    moved[:, :, 0, 1], moved[:, :, 2, 1] = z, -x
    moved[:, :, 0, 2], moved[:, :, 1, 2] = -y, x
    moved[..., 3:] = np.eye(3)
    return moved
