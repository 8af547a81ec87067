"""Guides of generated or driven motion: its mesh part, retargeted to the portrait's mesh.

Axes: t video frames, m implicit motion, n motion dimensions: implicit, mesh, and the blink last.
"""

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from mien.errors import UserError
from mien.mesh.guide import to_device
from mien.mesh.motion import MESH_DIM, from_vectors
from mien.mesh.retarget import retargeted_guides
from mien.portrait.animator import Animator
from mien.portrait.still_head import StillHead
from mien.portrait.streaming import GuideOf
from mien.portrait.window import Window
from mien.session.portrait import Portrait
from mien.types import Guide

# Generated lips close too rarely. This factor closes them at p, b and m of unseen speakers in 0.82
# of the cases instead of 0.76 (real lips: 0.97), and they open as far as before.
LIP_CONTRAST = 1.35
_NOSE_TIP = 4  # of FaceMesh's points
_CHIN_FALLS = 0.12  # of the face's height: how far an opening mouth moves the chin


def with_mesh_at_rest(motion: Float[Tensor, "1 m"]) -> Float[Tensor, "1 n"]:
    """A portrait's implicit motion followed by zero mesh motion, which retargeting maps to it."""
    return torch.cat((motion, motion.new_zeros(1, MESH_DIM)), dim=1)


def head_at_rest(animator: Animator, portrait: Portrait, guide_of: GuideOf) -> StillHead:
    """The portrait with a head that stays, and a window from the tip of its nose to below its chin.

    Raises:
        UserError: the portrait has no mesh, or the nets do not use it.
    """
    face, own, at_rest = portrait.face, portrait.motion, None
    if animator.config.guide and face is not None:
        at_rest = guide_of(F.pad(with_mesh_at_rest(own), (0, 1))[:, None])
    if face is None or at_rest is None:
        raise UserError(
            "a still head needs a face mesh in the portrait and nets that use it: leave out "
            "--still-head"
        )
    points, size = face.mesh.points[:, :2], portrait.source.shape[-1]
    low = points[points[:, 1] > points[_NOSE_TIP, 1]]
    (left, top), (right, bottom) = low.min(axis=0), low.max(axis=0)
    bottom += _CHIN_FALLS * np.ptp(points[:, 1])
    cells = animator.config.volume_size
    edges = np.clip(np.array([top, bottom, left, right]) * cells / size, 0, cells)
    top, bottom, left, right = (
        int(f(edge)) for f, edge in zip((np.floor, np.ceil) * 2, edges, strict=True)
    )
    window = Window(top, bottom, left, right, cells)
    return StillHead.of(animator, portrait.appearance, own, at_rest, window)


def guides_for(portrait: Portrait, contrast: float = 1.0) -> GuideOf:
    """The function that makes guides for this portrait from motion that ends with MESH_DIM values
    and a blink; it returns None if the portrait has no mesh. `contrast` as in
    `PortraitMesh.target`.
    """
    face = portrait.face

    def guide_of(motion: Float[Tensor, "1 t n"]) -> Guide | None:
        if face is None:
            return None
        vectors = motion[0].double().cpu().numpy()
        mesh, blinks = from_vectors(vectors[:, -MESH_DIM - 1 : -1]), vectors[:, -1]
        size = portrait.source.shape[-1]
        guide = retargeted_guides(face.mesh, mesh, size, face.mouth, blinks, face.scene, contrast)
        return to_device(guide, motion.device)

    return guide_of
