"""Blinks as a seeded random process, since stage 2 hardly learns them from its footage.

Axes: t video frames.
"""

import numpy as np
from jaxtyping import Float

from mien.face.geometry import Array
from mien.types import FPS

BLINKS = 14.0  # per minute, as of people who talk
_SHORTEST = 1.2  # seconds between blinks; less where more than 17 a minute are asked for
# How far the lids are shut in the frames of a blink: closing is faster than opening.
_SHAPE = (0.35, 0.9, 1.0, 0.8, 0.45, 0.15)


def blink_curve(frames: int, seed: int, rate: float = BLINKS) -> Float[Array, " t"]:
    """How far the lids are shut in each frame, 0 open to 1; the same seed gives the same blinks.

    `rate` is in blinks a minute (0: none). Pauses are drawn from a gamma distribution; at the usual
    rate the first blink is not before a second has passed.
    """
    random = np.random.default_rng((seed, 0xB11))
    curve = np.zeros(frames)
    if rate <= 0:
        return curve
    at = _pause(random, rate)
    while at < frames:
        length = min(len(_SHAPE), frames - at)
        curve[at : at + length] = _SHAPE[:length]
        at += len(_SHAPE) + _pause(random, rate)
    return curve


def _pause(random: np.random.Generator, rate: float) -> int:
    """Frames until the next blink begins."""
    between = 60 / rate
    shortest = min(_SHORTEST, between / 3)
    return round((shortest + random.gamma(2.0, (between - shortest) / 2)) * FPS)
