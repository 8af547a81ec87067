"""Head sway as a seeded random process, since stage 2 hardly learns it from its footage.

Most speakers there sit still; stage 2 does learn how heads nod along with speech.
Axes: t video frames, p values of a head pose, which are turn, shift and zoom of a MeshMotion.
"""

import numpy as np
from jaxtyping import Float

from mien.face.geometry import Array
from mien.types import FPS

# Deviations: of 19 clips of 15 speakers, heads turn aside by 1.9 degrees, lean by 2.7 and move
# aside by 0.07 eye distances (medians); what stage 2 makes lacks about this much.
_TURN = np.radians([0.0, 1.4, 1.8])  # nod, aside, lean
_SHIFT = np.array([0.04, 0.0])  # aside, down
_SLOW = 0.5  # seconds: deviation of the Gaussian that noise is smoothed by


def sway_curve(frames: int, seed: int) -> Float[Array, "t p"]:
    """What is added to the pose in each frame; the same seed gives the same sway, and a longer
    one begins like a shorter one.
    """
    random = np.random.default_rng((seed, 0x5A1))
    deviations = np.concatenate([_TURN, _SHIFT, [0.0]])
    reach = round(3 * _SLOW * FPS)
    kernel = np.exp(-np.square(np.arange(-reach, reach + 1) / (_SLOW * FPS)) / 2)
    kernel /= np.linalg.norm(kernel)
    noise = random.standard_normal((frames + 2 * reach, len(deviations)))
    smooth = [np.convolve(column, kernel, mode="valid") for column in noise.T]
    return np.stack(smooth, axis=1) * deviations
