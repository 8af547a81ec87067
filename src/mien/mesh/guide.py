"""The guide of a frame from two meshes of one head: the displacement of each pixel to the source.

Everything is a difference of the two meshes or of their poses: equal meshes give exactly zero.
Axes: t frames, h w space. Points are pixels of a picture `size` wide, x before y, z away from the
viewer.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mien.face import Scene
from mien.face.geometry import Array
from mien.mesh.alignment import HeadPose, head_pose
from mien.mesh.topology import (
    OVAL,
    POINTS,
    STABLE,
    VERTICES,
    Points,
    Vertices,
    border_of,
    topology,
    with_surroundings,
)
from mien.ops.rasterize import rasterize
from mien.ops.warp import identity_grid
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
    """The guide (batch of one) for a frame in which the mesh `source` has become `moved`; arguments
    as in `guides_between`, of one frame.
    """
    inside = None if interior is None else interior[None]
    return guides_between(source, moved[None], size, inside, scene)


def guides_between(
    source: Points,
    moved: Float[Array, "t 468 3"],
    size: int,
    interior: Float[Array, "t 4 h w"] | None = None,
    scene: Scene | None = None,
) -> Guide:
    """The guides of frames in which the mesh `source` has become `moved`.

    `interior` are pictures of the mouth's interior there (as in `Guide`), `scene` the separated
    person and background of the source, if they are known.
    """
    kept, t = _surrounded(source.astype(np.float64, copy=False).tobytes(), size), len(moved)
    displacement = np.zeros((t, size, size, 2), np.float32)
    skin, mouth = np.empty((2, t, size, size), np.float32)
    for points, *maps in zip(moved, displacement, skin, mouth, strict=True):
        _draw(kept, points, *maps)
    own = head_pose(source)
    head = np.stack([_head_affine(own, head_pose(points), size) for points in moved])
    guide = replace(
        join_guides([no_guide(size)] * t),
        displacement=torch.from_numpy(displacement),
        skin=torch.from_numpy(skin),
        mouth=torch.from_numpy(mouth),
        head=torch.from_numpy(head).float(),
        found=torch.ones(t),
    )
    if interior is not None:
        guide = replace(guide, interior=torch.from_numpy(interior))
    return guide if scene is None else _with_scene(guide, scene, moved)


def _draw(
    kept: "_Surrounded",
    moved: Points,
    displacement: Float[Array, "h w 2"],
    skin: Float[Array, "h w"],
    mouth: Float[Array, "h w"],
) -> None:
    """Fill the maps of one frame; the displacement is 0 before."""
    (triangles, *kinds), size = _drawn_triangles(), len(skin)
    own, there = kept.vertices, kept.moved(moved)
    # The strip inside the mouth has vertices of its own, a little behind the lips it hangs on.
    deeper = there.copy()
    deeper[:, 2] += _BEHIND_LIPS * np.ptp(moved[:, 1])
    difference = (own - there)[:, :2] * (2 / size)
    drawn = rasterize(
        np.concatenate([there, deeper]),
        triangles,
        np.concatenate([difference, difference]),
        size,
        displacement,
    )
    for kind, plane in zip(kinds, (skin, mouth), strict=True):
        np.take(kind, drawn.triangles, out=plane, mode="wrap")


@functools.cache
def _drawn_triangles() -> tuple[Int[Array, "k 3"], Float[Array, " kinds"], Float[Array, " kinds"]]:
    """The triangles, of which those inside the mouth have the second set of vertices; and by
    triangle, and at the end for none, whether it is skin, and whether inside the mouth.
    """
    shape = topology()
    triangles = shape.triangles.copy()
    triangles[shape.inside :] += VERTICES
    skin, mouth = np.zeros((2, len(triangles) + 1), np.float32)
    skin[:-1], mouth[shape.inside : -1] = shape.skin, 1
    return triangles, skin, mouth


def _with_scene(guide: Guide, scene: Scene, moved: Float[Array, "t 468 3"]) -> Guide:
    """The guide of some frames in which the mesh has become `moved`, with the separated person and
    background of their source.
    """
    from mien.mesh.person_numba import moved_person  # imported late: numba takes long to load

    person, behind = (torch.from_numpy(x)[None] for x in (scene.person, scene.background))
    t = len(moved)
    middle = [head_pose(points).to_picture(_SKULL[None])[0, :2] for points in moved]
    reach = np.ptp(moved[:, :, :2], axis=1) * (_WIDE, _HIGH)
    ellipses = np.concatenate([middle, reach], axis=1)
    # The outline is uncertain by a few pixels: there the learned field decides.
    covered, disoccluded = (
        torch.from_numpy(mask)
        for mask in moved_person(scene.person, guide.head.numpy(), ellipses, _FADES, _UNSURE)
    )
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


def head_move(head: Float[Tensor, "b 2 3"], side: int) -> Float[Tensor, "b h w 2"]:
    """The displacement of every place of a frame, were it part of the head (`Guide.head`)."""
    x, y = identity_grid(side, side, like=head).unbind(dim=-1)
    # No matrix product, which autocast would do in bfloat16: a quarter of a pixel.
    across, down, shift = head[..., None, None].unbind(dim=2)
    return (across * x[:1] + down * y[:, :1] + shift).permute(0, 2, 3, 1).contiguous()


@dataclass(frozen=True)
class _Surrounded:
    """A source mesh with its surroundings: all its `vertices`, the `share` of the head's own move
    that each ring vertex makes, and `solve`, which fits that move to those of the stable points.
    """

    vertices: Vertices
    share: Float[Array, "ring 1"]
    solve: Float[Array, "4 stable"]

    def moved(self, moved: Points) -> Vertices:
        """All vertices of the moved mesh; rings follow the head in part, the border stays."""
        there, ring = self.vertices.copy(), slice(POINTS, POINTS + len(self.share))
        there[:POINTS] = moved
        stable = list(STABLE)
        # The head's own move, affine in a point's place (x y z 1): least squares.
        head = self.solve @ (moved[stable] - self.vertices[stable])
        there[ring] += self.share * (_with_one(self.vertices[ring]) @ head)
        return there


@functools.lru_cache(maxsize=8)
def _surrounded(source: bytes, size: int) -> _Surrounded:
    """Kept, since all frames of a source share it."""
    points = np.frombuffer(source).reshape(-1, 3)
    oval = points[list(OVAL)]
    ways = oval[:, :2] - oval[:, :2].mean(axis=0)
    down = np.clip(ways[:, 1] / np.linalg.norm(ways, axis=1), 0, 1) ** 2
    shares = [aside + (below - aside) * down for aside, below in RING_FOLLOWS]
    return _Surrounded(
        with_surroundings(points, border_of(0.0, 0.0, float(size))),
        np.concatenate(shares)[:, None],
        np.linalg.pinv(_with_one(points[list(STABLE)])),
    )


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
