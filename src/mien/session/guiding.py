"""Guides of generated or driven motion: the mesh motion behind it, given to the portrait's mesh.

Axes: t video frames, m implicit motion, n motion numbers: implicit, mesh, and the blink last.
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

# Generated lips come near each other too seldom: with this they close at p, b and m of people never
# seen in 0.82 of the cases instead of 0.76 (real lips: 0.97), and open as far as before.
LIP_CONTRAST = 1.35


def with_mesh_at_rest(motion: Float[Tensor, "1 m"]) -> Float[Tensor, "1 n"]:
    """A portrait's implicit motion, followed by a mesh at rest: retargeting brings it there."""
    return torch.cat((motion, motion.new_zeros(1, MESH_DIM)), dim=1)


def guides_for(portrait: Portrait, contrast: float = 1.0) -> GuideOf:
    """What makes guides for this portrait of motion that ends in MESH_DIM numbers and a blink;
    there are none where the portrait has no mesh. `contrast` as in `PortraitMesh.target`.
    """
    face = portrait.face

    def guide_of(motion: Float[Tensor, "1 t n"]) -> Guide | None:
        if face is None:
            return None
        numbers = motion[0].double().cpu().numpy()
        mesh, blinks = from_vectors(numbers[:, -MESH_DIM - 1 : -1]), numbers[:, -1]
        size = portrait.source.shape[-1]
        guide = retargeted_guides(face.mesh, mesh, size, face.mouth, blinks, face.scene, contrast)
        return to_device(guide, motion.device)

    return guide_of
