"""The motion of synthetic clips: random frames of real speech, larger head poses, some blinks.

Axes: t frames.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from mien.face.geometry import Array
from mien.mesh.motion import MeshMotion

_AS_FILMED = 0.3  # chance that heads are not moved further than the driver's
_TURN = 6.0, 8.0, 4.0  # deviation of pitch, yaw and roll, degrees
_SHIFT = 0.06  # deviation, eye distances: about 5 pixels of a portrait at 256
_ZOOM = 0.03  # deviation of the log of the scale
_BLINKS = 0.15  # chance that the eyes of a frame are partly or wholly shut


@dataclass(frozen=True)
class MadeMotion:
    """The motion of all portraits of a group: a MeshMotion, and how far the lids are shut."""

    mesh: MeshMotion
    blinks: Float[Array, " t"]


def draw_motion(driver: MeshMotion, frames: int, random: np.random.Generator) -> MadeMotion:
    """Random frames of a driver's clip; of a short clip with replacement."""
    count = len(driver.zoom)
    chosen = random.choice(count, frames, replace=count < frames)
    motion = MeshMotion(
        driver.offsets[chosen], driver.turn[chosen], driver.shift[chosen], driver.zoom[chosen]
    )
    if random.random() >= _AS_FILMED:
        motion = replace(
            motion,
            turn=motion.turn + np.radians(_TURN) * random.standard_normal((frames, 3)),
            shift=motion.shift + _SHIFT * random.standard_normal((frames, 2)),
            zoom=motion.zoom + _ZOOM * random.standard_normal(frames),
        )
    shut = np.where(random.random(frames) < _BLINKS, random.random(frames), 0.0)
    return MadeMotion(motion, shut)
