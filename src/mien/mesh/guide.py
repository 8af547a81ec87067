"""From two meshes of one head to the guide of a frame: where each place of it lies in the source.

Everything is linear in the difference of the two meshes, so equal meshes guide nowhere, exactly.
Axes: h w space. Points are pixels of a picture `size` wide, x before y, z away from the viewer.
"""

from collections.abc import Sequence
from dataclasses import fields

import numpy as np
import torch
from jaxtyping import Float

from mien.face.geometry import Array
from mien.mesh.topology import (
    OVAL,
    POINTS,
    RING,
    RINGS,
    STABLE,
    Points,
    Vertices,
    border_of,
    topology,
    with_surroundings,
)
from mien.ops.rasterize import rasterize
from mien.types import Guide

# How much of the head's move each ring makes: at the sides and above, and straight below, where
# neck and shoulders stay.
RING_FOLLOWS = ((1.0, 0.65), (0.5, 0.1))
_BEHIND_LIPS = 0.02  # face heights that the inside of the mouth lies behind the lips


def guide_between(
    source: Points, moved: Points, size: int, interior: Float[Array, "4 h w"] | None = None
) -> Guide:
    """The guide (batch of one) for a frame in which the mesh `source` has become `moved`.

    `interior` is a picture of the mouth's inside there (as `Guide` holds it), if there is one.
    """
    shape = topology()
    own = with_surroundings(source, border_of(0.0, 0.0, float(size)))
    there = _moved_surroundings(own, source, moved)
    # The strip inside the mouth has vertices of its own, a little behind the lips it hangs on.
    behind = there.copy()
    behind[:, 2] += _BEHIND_LIPS * np.ptp(moved[:, 1])
    triangles = shape.triangles.copy()
    triangles[shape.inside :] += len(there)
    difference = (own - there)[:, :2] * (2 / size)
    drawn = rasterize(
        np.concatenate([there, behind]), triangles, np.concatenate([difference, difference]), size
    )
    kinds = np.append(shape.skin, 0)  # the last is what no triangle covers
    kinds[shape.inside : -1] = 2
    kind = kinds[drawn.triangles]
    return Guide(
        displacement=torch.from_numpy(drawn.values)[None],
        skin=torch.from_numpy(kind == 1).float()[None],
        inside=torch.from_numpy(kind == 2).float()[None],
        head=torch.from_numpy(_head_affine(source, moved, size)).float()[None],
        known=torch.ones(1),
        interior=_no_interior(size) if interior is None else torch.from_numpy(interior)[None],
    )


def no_guide(size: int) -> Guide:
    """The guide (batch of one) of a frame whose mesh nobody knows."""
    plane = torch.zeros(1, size, size)
    return Guide(
        displacement=torch.zeros(1, size, size, 2),
        skin=plane,
        inside=plane,
        head=torch.zeros(1, 2, 3),
        known=torch.zeros(1),
        interior=_no_interior(size),
    )


def join_guides(guides: Sequence[Guide]) -> Guide:
    """One batch of guides."""
    return Guide(*(torch.cat([getattr(g, f.name) for g in guides]) for f in fields(Guide)))


def to_device(guide: Guide, device: torch.device) -> Guide:
    """The guide where the net is."""
    return Guide(*(getattr(guide, f.name).to(device) for f in fields(Guide)))


def _no_interior(size: int) -> Float[torch.Tensor, "1 4 h w"]:
    return torch.zeros(1, 4, size, size)


def _moved_surroundings(own: Vertices, source: Points, moved: Points) -> Vertices:
    """All vertices of the moved mesh; rings follow the head in part, the border stays."""
    there = own.copy()
    there[:POINTS] = moved
    head = _move_of(source, moved)
    oval = source[list(OVAL)]
    ways = oval[:, :2] - oval[:, :2].mean(axis=0)
    down = np.clip(ways[:, 1] / np.linalg.norm(ways, axis=1), 0, 1) ** 2
    for i, (aside, below) in zip(range(len(RINGS)), RING_FOLLOWS, strict=True):
        ring = slice(POINTS + i * RING, POINTS + (i + 1) * RING)
        share = (aside + (below - aside) * down)[:, None]
        there[ring] += share * (_with_one(own[ring]) @ head)
    return there


def _move_of(start: Points, end: Points) -> Float[Array, "4 3"]:
    """The head's own move, affine in a point's place (x y z 1): least squares on stable points."""
    a, b = start[list(STABLE)], end[list(STABLE)]
    return np.linalg.lstsq(_with_one(a), b - a, rcond=None)[0]


def _head_affine(source: Points, moved: Points, size: int) -> Float[Array, "2 3"]:
    """Displacement to the source of any place (x y 1, 2 spans the picture), were it part of the
    head, in the plane of the face's outline.
    """
    back = _move_of(moved, source)[:, :2]
    depth = moved[list(OVAL), 2].mean()
    # In pixels the places are (place + 1) * size / 2.
    across = back[:2]
    constant = back[2] * depth + back[3] + across.sum(axis=0) * size / 2
    return np.concatenate([across, constant[None] * 2 / size]).T


def _with_one(points: Float[Array, "n 3"]) -> Float[Array, "n 4"]:
    return np.concatenate([points, np.ones((len(points), 1))], axis=1)
