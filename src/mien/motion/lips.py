"""Lip measures of mesh motion: the gap between the lips and the width of the mouth.

Lengths are in eye distances of the mean face. Axes: b batch, t frames, m motion dimensions.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from mien.mesh.motion import MESH_DIM, POSE_DIM
from mien.mesh.topology import CORNERS, INNER, POINTS

CLOSED = 0.035  # lips with a smaller gap are closed, as in evaluation: a quarter of speech's range


def lip_measures(motion: Float[Tensor, "b t m"]) -> Float[Tensor, "b t 2"]:
    """Gap between the inner lips' middles and change of the mouth's width, both 0 at rest.

    `motion` ends with the MESH_DIM values of a MeshMotion.
    """
    offsets = motion[..., -MESH_DIM:-POSE_DIM].unflatten(-1, (POINTS, 3))
    upper, lower = list(INNER[4:7]), [INNER[20 - i] for i in (4, 5, 6)]
    gap = (offsets[..., lower, 1] - offsets[..., upper, 1]).mean(dim=-1)
    width = offsets[..., CORNERS[1], 0] - offsets[..., CORNERS[0], 0]
    return torch.stack((gap, width), dim=-1)


def mesh_mask(motion: Float[Tensor, "b t m"]) -> Float[Tensor, " b"]:
    """1 for windows with mesh motion, 0 for those of clips without a detected face (all 0)."""
    return motion[..., -MESH_DIM:].abs().amax(dim=(1, 2)).gt(0).to(motion.dtype)


def closed(motion: Float[Tensor, "b t m"]) -> Float[Tensor, "b t"]:
    """1 in frames whose lips are closed, 0 elsewhere."""
    return (lip_measures(motion)[..., 0] < CLOSED).to(motion.dtype)
