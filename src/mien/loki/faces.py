"""Faces as Loki sees them: maps of the face model, and coefficients as values for the ablation.

One function for training and use: what is drawn is the whole picture of the clip or portrait, which
`mien.face.framing` has cropped. (The authors' repository crops every frame by its own mesh in
training and by the reference's box in use.)
Axes: t frames, k values, n h w pixels.
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mien.face_model.coefficients import FaceCoefficients
from mien.face_model.maps import Positions, draw_maps
from mien.face_model.parametric import FaceModel


def face_maps(
    model: FaceModel, coefficients: FaceCoefficients, size: int, positions: Positions
) -> Float[Tensor, "t 7 size size"]:
    """The maps of every frame: positions, expression offsets, covered. The numbers are those of 16
    bits, in which training keeps drawn maps.
    """
    camera = coefficients.camera
    maps = draw_maps(
        model, coefficients, (0.0, 0.0, float(camera.width), float(camera.height)), size, positions
    )
    covered = np.asarray(maps.covered, np.float32)[:, None]
    numbers = np.concatenate((maps.positions, maps.offsets, covered), axis=1)
    return torch.from_numpy(numbers.astype(np.float16).astype(np.float32))


def coefficient_vectors(coefficients: FaceCoefficients) -> Float[Tensor, "t k"]:
    """Expression, rotation, gaze, and the place: x and y over depth, and the log of the depth."""
    c = coefficients
    x, y, z = c.translation.T
    place = np.stack((x / z, y / z, np.log(z)), axis=1)
    values = np.concatenate((c.expression, c.rotation, c.eyes, place), axis=1)
    return torch.from_numpy(values.astype(np.float32))


def coefficient_dims(model: FaceModel) -> int:
    """The number of `coefficient_vectors`."""
    return len(model.expression_names) + 8


def mirrored_vectors(values: Float[Tensor, "t k"], names: tuple[str, ...]) -> Float[Tensor, "t k"]:
    """The values of the mirror image: axes of left and right change places."""
    sides = {"Left": "Right", "Right": "Left", "_L": "_R", "_R": "_L"}
    order = list(range(values.shape[1]))
    for index, name in enumerate(names):
        for side, other in sides.items():
            partner = name.removesuffix(side) + other
            if name.endswith(side) and partner in names:
                order[index] = names.index(partner)
    sign = torch.ones(values.shape[1])
    sign[len(names) :] = torch.tensor([1.0, -1, -1, -1, 1, -1, 1, 1])
    return values[:, order] * sign
