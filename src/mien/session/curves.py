"""ARKit curves of generated speech, and motion of a portrait from ARKit curves.

Curves move the mean person of the face model; its FaceMesh points then drive the portrait's mesh
as those of a driving video do. The implicit motion stays the portrait's own.
Axes: t video frames, m motion dimensions.
"""

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mien.errors import UserError
from mien.face.geometry import Array
from mien.face_model.arkit import ArkitCurves, coefficients_of, curves_of
from mien.face_model.coefficients import Camera
from mien.face_model.fitting import fit_points
from mien.face_model.parametric import FaceModel
from mien.face_model.points import points_of
from mien.mesh.alignment import head_pose
from mien.mesh.motion import MESH_DIM, as_vectors, from_vectors, read_motion
from mien.mesh.retarget import retarget
from mien.motion.finishing import Windows
from mien.portrait.streaming import FRAMES_AT_ONCE
from mien.session.guiding import LIP_CONTRAST, with_mesh_at_rest
from mien.session.portrait import GuidedFace, Portrait
from mien.types import FPS

_CAMERA = Camera(focal=8.0, center=(0.5, 0.5), width=256, height=256)
_DEPTH = 200.0  # centimetres
_DEVIATION = 0.25  # centimetres, of a mesh's points about the face model's


def curves_of_speech(portrait: Portrait, motion: Windows, model: FaceModel) -> ArkitCurves:
    """The curves of motion that `Session.generate` gives for this portrait, 25 a second.

    Raises:
        UserError: the portrait has no mesh, or stage 2 generates no mesh motion.
    """
    face, size = _face_of(portrait), portrait.source.shape[-1]
    points = []
    for window in motion:
        values = window[0].double().cpu().numpy()
        if values.shape[1] <= MESH_DIM:
            raise UserError(
                "this speech-to-motion net generates no mesh motion: use the weights that ship"
            )
        mesh, blinks = from_vectors(values[:, -MESH_DIM - 1 : -1]), values[:, -1]
        points.append(retarget(face.mesh, mesh, blinks, LIP_CONTRAST))
    seen = np.concatenate(points)
    # No net found these points, whose errors would be alike at neighbouring ones.
    fitted = fit_points(seen, (size, size), float(FPS), model, deviation=_DEVIATION)
    return curves_of(model, fitted)


def curve_motion(portrait: Portrait, curves: ArkitCurves, model: FaceModel) -> Windows:
    """Motion for `Session.draw` with `guides_for`, a few frames at a time.

    Raises:
        UserError: the portrait has no mesh, or the curves are not of 25 frames a second.
    """
    _face_of(portrait)
    if curves.fps != FPS:
        raise UserError(f"curves of {curves.fps:g} frames a second: bring them to {FPS} first")
    vectors = torch.from_numpy(mesh_vectors(curves, model)).to(portrait.motion)
    at_rest = with_mesh_at_rest(portrait.motion)
    return _windows(at_rest, vectors)


def mesh_vectors(curves: ArkitCurves, model: FaceModel) -> Float[Array, "t m"]:
    """The MeshMotion of curves as MESH_DIM values a frame."""
    none = ArkitCurves(
        np.zeros_like(curves.values[:1]), np.zeros((1, 3)), np.zeros((1, 3)), curves.fps
    )
    rest, moved = (
        points_of(model, coefficients_of(model, part, _CAMERA, _DEPTH)) for part in (none, curves)
    )
    return as_vectors(read_motion(moved, still=head_pose(rest[0]), rest=rest[0]))


def _windows(
    at_rest: Float[Tensor, "1 m"], vectors: Float[Tensor, "t k"]
) -> Iterator[Float[Tensor, "1 _ n"]]:
    implicit = at_rest[:, :-MESH_DIM]
    for chunk in vectors.split(FRAMES_AT_ONCE):
        own = implicit.expand(len(chunk), -1)
        no_blink = chunk.new_zeros(len(chunk), 1)
        yield torch.cat((own, chunk, no_blink), dim=1)[None]


def _face_of(portrait: Portrait) -> GuidedFace:
    if portrait.face is None:
        raise UserError(
            "this portrait has no face mesh, or the animator takes no guide: take a picture with a "
            "face from the front and the weights that ship"
        )
    return portrait.face
