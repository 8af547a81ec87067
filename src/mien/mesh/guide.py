"""The guide of a frame from two meshes of one head: the displacement of each pixel to the source.

Everything is a difference of the two meshes or of their poses: equal meshes give exactly zero.
Axes: t frames, h w space. Points are pixels of a picture `size` wide, x before y, z away from the
viewer.
"""

import functools
from collections.abc import Sequence
from dataclasses import fields, replace

import cv2
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mien.face import Scene
from mien.face.geometry import Array
from mien.mesh.alignment import HeadPose, head_pose
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
from mien.ops.warp import identity_grid, repeat_frames, warp_map
from mien.types import Guide

# How much of the head's move each ring makes: at the sides and above, and straight below, where
# neck and shoulders stay.
RING_FOLLOWS = ((1.0, 0.65), (0.5, 0.1))
_SKULL = np.array([0.0, -0.3, 1.5])  # its middle, in head coordinates
# Of the face's width and height: the ellipse of the head around it, and the share of it over which
# the head's move ends.
_WIDE, _HIGH, _FADES = 0.95, 0.95, 0.2
_UNSURE = 3  # pixels
_BEHIND_LIPS = 0.02  # face heights that the inside of the mouth lies behind the lips


def guide_between(
    source: Points,
    moved: Points,
    size: int,
    interior: Float[Array, "4 h w"] | None = None,
    scene: Scene | None = None,
) -> Guide:
    """The guide (batch of one) for a frame in which the mesh `source` has become `moved`.

    `interior` is a picture of the mouth's interior there (as in `Guide`), `scene` the separated
    person and background of the source, if they are known.
    """
    shape = topology()
    own = with_surroundings(source, border_of(0.0, 0.0, float(size)))
    there = _moved_surroundings(own, source, moved)
    # The strip inside the mouth has vertices of its own, a little behind the lips it hangs on.
    deeper = there.copy()
    deeper[:, 2] += _BEHIND_LIPS * np.ptp(moved[:, 1])
    triangles = shape.triangles.copy()
    triangles[shape.inside :] += len(there)
    difference = (own - there)[:, :2] * (2 / size)
    drawn = rasterize(
        np.concatenate([there, deeper]), triangles, np.concatenate([difference, difference]), size
    )
    kinds = np.append(shape.skin, 0)  # the last is what no triangle covers
    kinds[shape.inside : -1] = 2
    kind = kinds[drawn.triangles]
    head = _head_affine(head_pose(source), head_pose(moved), size)
    guide = replace(
        no_guide(size),
        displacement=torch.from_numpy(drawn.values)[None],
        skin=torch.from_numpy(kind == 1).float()[None],
        mouth=torch.from_numpy(kind == 2).float()[None],
        head=torch.from_numpy(head).float()[None],
        found=torch.ones(1),
    )
    if interior is not None:
        guide = replace(guide, interior=torch.from_numpy(interior)[None])
    return guide if scene is None else with_scene(guide, scene, moved[None])


def with_scene(guide: Guide, scene: Scene, moved: Float[Array, "t 468 3"]) -> Guide:
    """The guide of some frames in which the mesh has become `moved`, with the separated person and
    background of their source: faster for all frames at once.
    """
    person, behind = (torch.from_numpy(x)[None] for x in (scene.person, scene.background))
    t = len(moved)
    covered, disoccluded = _passed(person, guide.head, moved)
    return replace(
        guide,
        person=person.expand(t, -1, -1),
        background=behind.expand(t, -1, -1, -1),
        covered=covered,
        disoccluded=disoccluded,
    )


@functools.cache
def no_guide(size: int) -> Guide:
    """The empty guide (batch of one) of a frame whose mesh is unknown. All guides share its maps,
    which spares `join_guides` copies: never write to them.
    """
    # The first caller may be in inference mode or have another default device; later ones may not.
    with torch.inference_mode(False), torch.device("cpu"):
        plane = torch.zeros(1, size, size)
        return Guide(
            displacement=torch.zeros(1, size, size, 2),
            skin=plane,
            mouth=plane,
            head=torch.zeros(1, 2, 3),
            person=torch.ones(1, size, size),
            background=torch.zeros(1, 3, size, size),
            covered=plane,
            disoccluded=plane,
            found=torch.zeros(1),
            interior=torch.zeros(1, 4, size, size),
        )


def join_guides(guides: Sequence[Guide]) -> Guide:
    """One batch of guides; a map of the source that they share is not copied for each."""
    return Guide(*(_joined([getattr(guide, f.name) for guide in guides]) for f in fields(Guide)))


def _joined(maps: list[Tensor]) -> Tensor:
    first = maps[0]
    if all(len(m) == 1 and m.data_ptr() == first.data_ptr() for m in maps):
        return first.expand(len(maps), *first.shape[1:])
    return torch.cat(maps)


def to_device(guide: Guide, device: torch.device) -> Guide:
    """The guide where the net is."""
    return Guide(*(getattr(guide, f.name).to(device) for f in fields(Guide)))


def _passed(
    person: Float[Tensor, "1 h w"],
    head: Float[Tensor, "t 2 3"],
    moved: Float[Array, "t 468 3"],
) -> tuple[Float[Tensor, "t h w"], Float[Tensor, "t h w"]]:
    """Masks of where the moved head shows the person, and where the person is no longer; both are 0
    away from the head, where neck and shoulders stay.
    """
    size = person.shape[-1]
    there = warp_map(repeat_frames(person[:, None], len(moved)), head_move(head, size))[:, 0]
    middle = [head_pose(points).to_picture(_SKULL[None])[0, :2] for points in moved]
    reach = np.ptp(moved[:, :, :2], axis=1) * (_WIDE, _HIGH)
    x, y = torch.from_numpy(np.array(middle)).T[..., None]
    wide, high = torch.from_numpy(reach).T[..., None]
    places = torch.arange(size) + 0.5
    aside, below = (places - x) / wide, (places - y) / high
    zone = ((1 - torch.hypot(aside[:, None], below[..., None])) / _FADES + 1).clamp(0, 1).float()
    # The outline is uncertain by a few pixels: there the learned field decides.
    kernel = np.ones((2 * _UNSURE + 1, 2 * _UNSURE + 1), np.uint8)
    # OpenCV's are a tenth of the time of max_pool2d, with the same result.
    closer, wider = (
        torch.from_numpy(np.stack([change(plane, kernel) for plane in there.numpy()]))
        for change in (cv2.erode, cv2.dilate)
    )
    return closer * zone, (person - wider).clamp(min=0) * zone


def head_move(head: Float[Tensor, "b 2 3"], side: int) -> Float[Tensor, "b h w 2"]:
    """The displacement of every place of a frame, were it part of the head (`Guide.head`)."""
    x, y = identity_grid(side, side, like=head).unbind(dim=-1)
    # No matrix product, which autocast would do in bfloat16: a quarter of a pixel.
    across, down, shift = head[..., None, None].unbind(dim=2)
    return (across * x[:1] + down * y[:, :1] + shift).permute(0, 2, 3, 1).contiguous()


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


def _head_affine(own: HeadPose, there: HeadPose, size: int) -> Float[Array, "2 3"]:
    """Displacement to the source of any place (x y 1, 2 spans the picture), were it part of the
    head: its outline moves with the middle of the skull, is scaled and rolls; turning aside and
    nodding, a round head looks alike.
    """
    middle, wanted = (pose.to_picture(_SKULL[None])[0, :2] for pose in (own, there))
    zoom, roll = own.scale / there.scale, _roll(own) - _roll(there)
    back = zoom * np.array([[np.cos(roll), -np.sin(roll)], [np.sin(roll), np.cos(roll)]])
    across = back - np.eye(2)
    # In pixels the places are (place + 1) * size / 2.
    shift = (middle - wanted) - across @ wanted + across.sum(axis=1) * size / 2
    return np.concatenate([across, shift[:, None] * 2 / size], axis=1)


def _roll(pose: HeadPose) -> float:
    """Roll of the head, radians."""
    return float(np.arctan2(pose.rotation[1, 0], pose.rotation[0, 0]))


def _with_one(points: Float[Array, "n 3"]) -> Float[Array, "n 4"]:
    return np.concatenate([points, np.ones((len(points), 1))], axis=1)
