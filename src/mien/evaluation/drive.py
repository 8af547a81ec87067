"""A portrait moved by the frames of a video: the one place where evaluation drives by pictures.

Axes: t video frames, h w space, m motion. Pictures are RGB in [-1, 1].
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mien.data.meshes import face_mesh, look, mesh_motion
from mien.face import Scene
from mien.face_model.mouth import MouthInterior
from mien.media import to_bytes
from mien.mesh.guide import guide_between, join_guides, no_guide, to_device
from mien.mesh.motion import from_vectors
from mien.mesh.retarget import retarget
from mien.mesh.topology import Points
from mien.pipeline import guided_face
from mien.portrait.animator import Animator
from mien.portrait.streaming import FRAMES_AT_ONCE, GuideOf, render_stream
from mien.types import Guide


def drive(
    animator: Animator,
    portrait: Float[Tensor, "1 3 h w"],
    frames: Float[Tensor, "t 3 h w"],
    rest: Float[Tensor, "1 3 h w"] | None = None,
) -> Iterator[Float[Tensor, "_ 3 h w"]]:
    """Draw the portrait as the frames move, a few frames at a time, all of them in the end.

    With `rest`, the driver's face at rest, the portrait moves by what differs from it: portrait and
    driver may be two people. Without, it takes the motion of the frames itself, which suits frames
    of the same person from the same clip. A guided animator is guided by the frames' mesh likewise.

    Pictures are on the animator's device, also the drawn ones. Call it where gradients are off:
    they would be kept for every frame.
    """
    appearance = animator.encode_appearance(portrait)
    own = animator.encode_motion(portrait).float()  # frame numbers stand behind it
    away = 0 if rest is None else own - animator.encode_motion(rest)
    numbers = torch.arange(len(frames), device=own.device, dtype=own.dtype)[:, None]
    motion = (
        torch.cat((animator.encode_motion(part) + away, number), dim=1)[None]
        for part, number in zip(
            frames.split(FRAMES_AT_ONCE), numbers.split(FRAMES_AT_ONCE), strict=True
        )
    )
    points = None
    if animator.config.guide:
        points = _own_points(portrait, frames) if rest is None else _taken_points(portrait, frames)
    for drawn in render_stream(animator, appearance, own, motion, _guides_at(points, portrait)):
        yield drawn[0].float()


@dataclass(frozen=True)
class _Track:
    """A portrait's points in every frame (pixels), where they are known, where it shows the
    person, and its mouth's inside.
    """

    source: Points
    moved: Float[np.ndarray, "t 468 3"]
    known: Bool[np.ndarray, " t"]
    scene: Scene
    mouth: MouthInterior


def _own_points(
    portrait: Float[Tensor, "1 3 h w"], frames: Float[Tensor, "t 3 h w"]
) -> _Track | None:
    """Portrait and frames show one person: the frames' own points."""
    face = guided_face(portrait)
    if face is None:
        return None
    seen = look(face_mesh(), to_bytes(frames))
    moved = seen.points.double().numpy() * portrait.shape[-1]
    return _Track(face.mesh.points, moved, seen.found.numpy(), face.scene, face.mouth)


def _taken_points(
    portrait: Float[Tensor, "1 3 h w"], frames: Float[Tensor, "t 3 h w"]
) -> _Track | None:
    """The motion of the frames' face given to the portrait's."""
    face, seen = guided_face(portrait), look(face_mesh(), to_bytes(frames))
    if face is None or not bool(seen.found.any()):
        return None
    motion = from_vectors(mesh_motion(seen).double().numpy())
    moved = retarget(face.mesh, motion)
    return _Track(face.mesh.points, moved, np.ones(len(moved), bool), face.scene, face.mouth)


def _guides_at(track: _Track | None, portrait: Tensor) -> GuideOf:
    """Guides of the frames whose numbers stand behind the motion."""
    size = portrait.shape[-1]

    def guide(t: int) -> Guide:
        if track is None or not track.known[t]:
            return no_guide(size)
        inside = track.mouth.draw(track.moved[t], size)
        return guide_between(track.source, track.moved[t], size, inside, track.scene)

    def guide_of(motion: Float[Tensor, "1 t k"]) -> Guide | None:
        if track is None:
            return None
        made = [guide(int(t)) for t in motion[0, :, -1].tolist()]
        return to_device(join_guides(made), motion.device)

    return guide_of
