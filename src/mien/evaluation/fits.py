"""The face model fitted to frames whose landmarks are known: what the metrics of following compare.

Axes: t video frames.
"""

import torch

from mien.audio.features import FPS
from mien.data.meshes import ClipMeshes
from mien.face_model.coefficients import FaceCoefficients
from mien.face_model.fitting import fit_points

LEAST = 2  # frames with a face


def fit_meshes(meshes: ClipMeshes, side: int) -> FaceCoefficients | None:
    """The face of square frames of `side` pixels, one identity for all; None where less than LEAST
    frames show one.
    """
    if int(meshes.found.sum()) < LEAST:
        return None
    points = torch.where(meshes.found[:, None, None], meshes.points.double() * side, torch.nan)
    return fit_points(points.numpy(), (side, side), float(FPS))
