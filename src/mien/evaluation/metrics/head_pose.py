"""Does the head turn as the driver's does? Loki's head-pose trajectory, in degrees.

The rotations R of both fits are compared by how far they have turned since the first frame, which
cancels a constant offset between the two trackings. R_t R_0^T, of the authors' repository, cancels
an offset on the head's side (R C) exactly, one on the camera's side (C R) only in part; R_0^T R_t
cancels the camera's side. Fitted with ICT-FaceKit's model, which has no neck of its own: figures do
not compare with the paper's (FLAME, head and neck).
Axes: t frames.
"""

import numpy as np
from scipy.spatial.transform import Rotation

from mien.evaluation.comparison import Comparison, Task
from mien.evaluation.following import WeightedMean, fitted
from mien.evaluation.metric import ClipMetric
from mien.evaluation.series import UNKNOWN, Series
from mien.face_model.coefficients import FaceCoefficients


class HeadPose(ClipMetric):
    """Angle in degrees between the head's turns since the first frame, R_t R_0^T (paper: Loki), of
    clip and driver, fitted with ICT-FaceKit's model; mean over the frames. Lower is better.
    """

    name = "head_pose"
    tasks = frozenset({Task.FOLLOW, Task.FOLLOW_OTHER})

    def of_clip(self, pair: Comparison) -> float:
        """Over the frames in which both faces were found."""
        both = fitted(pair)
        return UNKNOWN if both is None else float(camera_side_angles(*both).mean())


class HeadPoseInHead(ClipMetric):
    """The same with R_0^T R_t: the turns seen from the head, whatever the camera's orientation."""

    name = "head_pose_in_head"
    tasks = HeadPose.tasks

    def of_clip(self, pair: Comparison) -> float:
        """Over the frames in which both faces were found."""
        both = fitted(pair)
        return UNKNOWN if both is None else float(head_side_angles(*both).mean())


class HeadPoseOfAll(WeightedMean):
    """head_pose of all clips: their mean weighted by the frames with a face in both."""

    name = "head_pose"
    tasks = HeadPose.tasks
    of = HeadPose()


class HeadPoseInHeadOfAll(WeightedMean):
    """head_pose_in_head of all clips, weighted in the same way."""

    name = "head_pose_in_head"
    tasks = HeadPose.tasks
    of = HeadPoseInHead()


def camera_side_angles(one: FaceCoefficients, other: FaceCoefficients) -> Series:
    """Degrees between the turns R_t R_0^T of two faces at the same frames; the first is 0."""
    first, second = (Rotation.from_rotvec(face.rotation) for face in (one, other))
    return _degrees(first * first[0].inv(), second * second[0].inv())


def head_side_angles(one: FaceCoefficients, other: FaceCoefficients) -> Series:
    """Degrees between the turns R_0^T R_t of two faces at the same frames; the first is 0."""
    first, second = (Rotation.from_rotvec(face.rotation) for face in (one, other))
    return _degrees(first[0].inv() * first, second[0].inv() * second)


def _degrees(one: Rotation, other: Rotation) -> Series:
    """2 arccos |p . q| of the unit quaternions, in the form that is exact at small angles."""
    return np.degrees((one * other.inv()).magnitude())
