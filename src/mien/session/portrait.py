"""The portrait: a picture in any form becomes a cropped source, encoded once by the animator.

Axes: h w space, a appearance, m motion. Pictures are RGB.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mien.data.meshes import face_mesh
from mien.errors import UserError
from mien.face import (
    Box,
    Picture,
    Scene,
    crop,
    find_portrait,
    framed,
    quarter_turns,
    scene_of,
)
from mien.face_model.mouth import MouthInterior
from mien.media import PILImage, load_picture, picture_of, picture_size, to_bytes, upright_size
from mien.mesh.retarget import PortraitMesh
from mien.portrait.animator import Animator
from mien.types import Appearance, Framing

PortraitSource = Path | str | np.ndarray | PILImage  # an array of RGB bytes, h w 3


@dataclass(frozen=True)
class GuidedFace:
    """A portrait's mesh, the person and the background behind, and the mouth interior."""

    mesh: PortraitMesh
    scene: Scene
    mouth: MouthInterior


@dataclass(frozen=True)
class Portrait:
    """A source that the animator has encoded, for any number of sounds and drivers.

    `source` is the cropped picture in [-1, 1], `motion` its own M_D; `face` is None where the
    animator is not guided or no face is found; `notes` are for the user.
    """

    source: Float[Tensor, "1 3 h w"]
    appearance: Appearance
    motion: Float[Tensor, "1 m"]
    face: GuidedFace | None
    notes: tuple[str, ...] = ()


def refuse_unprepared(portrait: object, kind: type) -> None:
    """Check that a portrait is of the class that a session's `prepare` returns.

    Raises:
        UserError: it is not.
    """
    if not isinstance(portrait, kind):
        given = f"{portrait!r:.60}" if isinstance(portrait, str | Path) else type(portrait).__name__
        raise UserError(
            f"the portrait {given} is not prepared: give what the session's prepare returns"
        )


def read_portrait(
    animator: Animator, source: Float[Tensor, "1 3 h w"], notes: Sequence[str] = ()
) -> Portrait:
    """Encode a cropped picture, once."""
    device = next(animator.parameters()).device
    appearance = animator.encode_appearance(source.to(device))
    motion = animator.encode_motion(source.to(device)).float()
    face = guided_face(source) if animator.config.guide else None
    return Portrait(source, appearance, motion, face, tuple(notes))


def load_face(
    portrait: PortraitSource, box: Box | None, size: int, framing: Framing = "face"
) -> tuple[Float[Tensor, "1 3 size size"], tuple[str, ...]]:
    """The square around the face at `size` pixels in [-1, 1], and notes for the user.

    `box` is the face in pixels of the upright picture; without it the largest face is found.
    `framing` is what the animator was trained to draw.

    Raises:
        UserError: the picture cannot be read, shows no face, or the box is not inside it.
    """
    picture, name, (width, height) = _picture_of(portrait)
    if box is None:
        notes = []
        if turns := quarter_turns(picture, face_mesh()):
            picture = np.ascontiguousarray(np.rot90(picture, turns))
            notes.append(f"the face in {name} is not upright: turned by {90 * turns} degrees")
        place = find_portrait(picture, face_mesh(), name, framing)
        if place.faces > 1:
            several = f"{place.faces} faces in {name}: the largest speaks (--box chooses another)"
            notes.append(several)
        return crop(picture, place.box, size), tuple(notes)
    if not (box[0] >= 0 and box[1] >= 0 and box[2] <= width and box[3] <= height):
        asked = ",".join(f"{number:g}" for number in box)
        raise UserError(f"the box {asked} leaves {name}, which is {width} x {height} pixels")
    shrunk = picture.shape[1] / width  # large pictures are downscaled when loaded
    x0, y0, x1, y1 = (number * shrunk for number in box)
    square = framed((x0, y0, x1, y1), framing, picture.shape[1], picture.shape[0])
    return crop(picture, square, size), ()


def _picture_of(portrait: PortraitSource) -> tuple[Picture, str, tuple[int, int]]:
    """The pixels, their name in messages, and width and height before any downscaling."""
    if isinstance(portrait, Path | str):
        path = Path(portrait)
        return load_picture(path), str(portrait), picture_size(path)
    if isinstance(portrait, PILImage):
        return picture_of(portrait), "the picture", upright_size(portrait)
    if not isinstance(portrait, np.ndarray):
        raise UserError(
            f"the picture is of type {type(portrait).__name__}: give a file, RGB bytes "
            "(height x width x 3) or a PIL image"
        )
    if portrait.dtype != np.uint8 or portrait.ndim != 3 or portrait.shape[2] != 3:
        raise UserError(
            f"the picture is {portrait.dtype} of shape {portrait.shape}: "
            "give RGB bytes, height x width x 3"
        )
    return portrait, "the picture", (portrait.shape[1], portrait.shape[0])


@torch.no_grad()
def guided_face(source: Float[Tensor, "1 3 size size"]) -> GuidedFace | None:
    """The mesh of the face in a cropped portrait; None where no face is found in it."""
    picture, nets = to_bytes(source)[0], face_mesh()
    faces = nets.faces(picture)
    if not faces:
        return None
    points = nets.landmarks(picture, faces[0])[0].astype(np.float64)
    mesh, scene = PortraitMesh.of(points), scene_of(picture, points[:, :2])
    return GuidedFace(mesh, scene, MouthInterior.of(mesh, picture))
