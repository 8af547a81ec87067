"""When eyes blink: a seeded process, since the footage that trains stage 2 hardly teaches it.

Axes: t video frames.
"""

import numpy as np
from jaxtyping import Float

from mien.face.geometry import Array
from mien.types import FPS

_BETWEEN = 4.2  # seconds from blink to blink on average: about 14 a minute, as people do who talk
_SHORTEST = 1.2  # seconds
# How far the lids are shut in the frames of a blink: closing is faster than opening.
_SHAPE = (0.35, 0.9, 1.0, 0.8, 0.45, 0.15)


def blink_curve(frames: int, seed: int) -> Float[Array, " t"]:
    """How far the lids are shut in each frame, 0 open to 1; the same seed gives the same blinks.

    Pauses are drawn from a gamma distribution; the first blink is not before a second has passed.
    """
    random = np.random.default_rng((seed, 0xB11))
    curve = np.zeros(frames)
    at = _pause(random)
    while at < frames:
        length = min(len(_SHAPE), frames - at)
        curve[at : at + length] = _SHAPE[:length]
        at += len(_SHAPE) + _pause(random)
    return curve


def _pause(random: np.random.Generator) -> int:
    """Frames until the next blink begins."""
    seconds = _SHORTEST + random.gamma(2.0, (_BETWEEN - _SHORTEST) / 2)
    return round(seconds * FPS)
