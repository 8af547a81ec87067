"""The guide of a training pair: both frames' meshes, transformed by the augmentation's warps.

Axes: n points, h w space. Places are in [-1, 1] of the picture, x before y.
"""

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from mien.face import scene_of
from mien.face.geometry import Array
from mien.face_model.mouth import MouthInterior
from mien.media import to_bytes
from mien.mesh.guide import guide_between
from mien.mesh.retarget import PortraitMesh
from mien.mesh.topology import EYE_CORNERS, Points
from mien.types import Guide

_STEPS = 12  # of Newton's method; places are then found within a thousandth of a pixel

Meshes = tuple[Float[Tensor, "468 3"], Float[Tensor, "468 3"]]  # of source and driving frame
Grids = tuple[Float[Tensor, "h w 2"], Float[Tensor, "h w 2"]]


def guide_of_pair(
    meshes: Meshes, grids: Grids, picture: Float[Tensor, "3 h w"], inside: bool = True
) -> Guide:
    """The guide (batch of one) of two frames that were sampled at `grids`; `picture` is the source
    after that.

    `meshes` are of the frames before, in shares of the picture's side. `inside`: with the interior
    of the mouth, as drawn at inference.
    """
    size = grids[0].shape[0]
    source, driving = (
        ((carried(mesh * 2 - 1, grid) + 1) * (size / 2)).double().numpy()
        for mesh, grid in zip(meshes, grids, strict=True)
    )
    own, there = np.ascontiguousarray(source), np.ascontiguousarray(driving)
    shown = to_bytes(picture[None])[0]
    scene = scene_of(shown, own[:, :2])
    drawn = mouth_inside(own, there, shown) if inside else None
    return guide_between(own, there, size, drawn, scene)


def mouth_inside(
    source: Points, driving: Points, picture: UInt8[Array, "h w 3"]
) -> Float[Array, "4 h w"]:
    """The mouth's interior in the driving frame of a pair, in the light of the source.

    Points are pixels. Mirrored pairs are mirrored back, drawn, and mirrored again: the model of the
    mouth distinguishes left and right.
    """
    size = len(picture)
    right, left = EYE_CORNERS[0], EYE_CORNERS[-1]  # the outer ones
    mirrored = source[right, 0] > source[left, 0]
    if mirrored:
        source, driving = (points * (-1, 1, 1) + (size, 0, 0) for points in (source, driving))
        picture = np.ascontiguousarray(picture[:, ::-1])
    drawn = MouthInterior.of(PortraitMesh.of(source), picture).draw(driving, size)
    return np.ascontiguousarray(drawn[..., ::-1]) if mirrored else drawn


def carried(points: Float[Tensor, "n 3"], grid: Float[Tensor, "h w 2"]) -> Float[Tensor, "n 3"]:
    """Positions of a picture's points after it was sampled at `grid`: the grid inverted by Newton's
    method. Outside the picture the grid is extrapolated linearly; z is scaled like the picture.
    """
    h, w = grid.shape[:2]
    across = torch.gradient(grid, spacing=2 / w, dim=1)[0]
    down = torch.gradient(grid, spacing=2 / h, dim=0)[0]
    planes = torch.cat((grid, across, down), dim=-1).permute(2, 0, 1)[None]
    mean = torch.stack((across.mean(dim=(0, 1)), down.mean(dim=(0, 1))), dim=1)
    wanted = points[:, :2]
    place = (wanted - grid.mean(dim=(0, 1))) @ torch.linalg.inv(mean).T
    for _ in range(_STEPS):
        near = place.clamp(-1, 1)
        read = F.grid_sample(planes, near[None, None], padding_mode="border", align_corners=False)
        value, slope = read[0, :, 0].T.split((2, 4), dim=1)
        jacobian = slope.view(-1, 2, 2).transpose(1, 2)
        value = value + torch.einsum("n i j, n j -> n i", jacobian, place - near)
        place = place + torch.linalg.solve(jacobian, wanted - value)
    scale = torch.linalg.det(mean).abs().sqrt()
    return torch.cat((place, points[:, 2:] / scale), dim=1)
