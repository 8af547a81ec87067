"""Motion that portraits are given: moments of real talk, heads turned further, sometimes a blink.

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
    """What every portrait of a group does: a MeshMotion, and how far the lids are shut."""

    mesh: MeshMotion
    blinks: Float[Array, " t"]


def draw_motion(driver: MeshMotion, frames: int, random: np.random.Generator) -> MadeMotion:
    """Moments of a driver's clip in a random order; a short clip is drawn from again."""
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
