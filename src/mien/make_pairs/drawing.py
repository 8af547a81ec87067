"""A portrait warped by a mesh: the picture that the guide alone would give.

The face is warped by its mesh, the head around it by the rings of the mesh, the mouth's interior is
rendered, and the background stays. The motion of hair and neck is unknown; training gives it a low
weight (`FramePair.pixel_weight`). Axes: t frames, h w space, n points.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Float, UInt8

from mien.face.geometry import Array
from mien.make_pairs.motions import MadeMotion
from mien.make_pairs.portraits import MovablePortrait
from mien.media import to_bytes
from mien.mesh.guide import guide_between
from mien.mesh.retarget import retarget
from mien.mesh.topology import Points
from mien.ops.warp import warp_map
from mien.portrait.guide import disocclusion, fill_background, warp_person_mask

Frame = UInt8[Array, "h w 3"]


def moved_points(portrait: MovablePortrait, motion: MadeMotion) -> Float[Array, "t 468 3"]:
    """Where the portrait's points lie in every frame, pixels."""
    return retarget(portrait.face.mesh, motion.mesh, motion.blinks)


def moved_frames(portrait: MovablePortrait, points: Float[Array, "t 468 3"]) -> Iterator[Frame]:
    """The portrait with its points moved."""
    for there in points:
        yield _drawn(portrait, there)


def _drawn(portrait: MovablePortrait, there: Points) -> Frame:
    face, size = portrait.face, portrait.picture.shape[-1]
    inside = face.mouth.draw(there, size)
    guide = guide_between(face.mesh.points, there, size, inside, face.scene)
    flow = guide.displacement * warp_person_mask(guide, guide.displacement)[..., None]
    disoccluded = disocclusion(guide, warp_person_mask(guide, flow))
    frame = fill_background(warp_map(portrait.picture, flow), guide, disoccluded)
    frame = torch.lerp(frame, guide.interior[:, :3], guide.interior[:, 3:])
    return to_bytes(frame)[0]
