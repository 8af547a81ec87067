"""Drive a portrait by the frames of a clip in memory, as `mien reenact` does.

Axes: t video frames, h w space. Pictures are RGB in [-1, 1].
"""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from mien.data.meshes import ClipMeshes, face_mesh, track_meshes
from mien.media import to_bytes
from mien.portrait.animator import Animator
from mien.portrait.streaming import FRAMES_AT_ONCE, render_stream
from mien.session.driving import Driver, driven_motion
from mien.session.portrait import read_portrait


def drive(
    animator: Animator,
    portrait: Float[Tensor, "1 3 h w"],
    frames: Float[Tensor, "t 3 h w"],
    rest: int | None = None,
    meshes: ClipMeshes | None = None,
) -> Iterator[Float[Tensor, "_ 3 h w"]]:
    """Draw the portrait as the frames move, a few frames at a time, all of them in the end.

    With `rest`, the frame that shows the driver at rest, the portrait moves by what differs from
    it: portrait and driver may be two people. Without, it takes the motion of the frames itself,
    which suits frames of the same person from the same clip. `meshes` are those of the frames, if
    they were tracked before.

    Pictures are on the animator's device, also the drawn ones. Call it where gradients are off:
    they would be kept for every frame.
    """
    prepared = read_portrait(animator, portrait)
    if not animator.config.guide:
        meshes = ClipMeshes(torch.zeros(len(frames), 468, 3), torch.zeros(len(frames)).bool())
    elif meshes is None:
        meshes = track_meshes(face_mesh(), to_bytes(frames))
    driver = Driver(lambda: iter(frames.split(FRAMES_AT_ONCE)), meshes, rest or 0)
    transfer = "same_person" if rest is None else "relative"
    motion, guide_of = driven_motion(animator, prepared, driver, transfer)
    for drawn in render_stream(animator, prepared.appearance, prepared.motion, motion, guide_of):
        yield drawn.float()
