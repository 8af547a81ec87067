"""Guides of generated or driven motion: its mesh part, retargeted to the portrait's mesh.

Axes: t video frames, m implicit motion, n motion dimensions: implicit, mesh, and the blink last.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from mien.mesh.guide import to_device
from mien.mesh.motion import MESH_DIM, from_vectors
from mien.mesh.retarget import retargeted_guides
from mien.portrait.streaming import GuideOf
from mien.session.portrait import Portrait
from mien.types import Guide

# Generated lips close too rarely. This factor closes them at p, b and m of unseen speakers in 0.82
# of the cases instead of 0.76 (real lips: 0.97), and they open as far as before.
LIP_CONTRAST = 1.35


def with_mesh_at_rest(motion: Float[Tensor, "1 m"]) -> Float[Tensor, "1 n"]:
    """A portrait's implicit motion followed by zero mesh motion, which retargeting maps to it."""
    return torch.cat((motion, motion.new_zeros(1, MESH_DIM)), dim=1)


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
