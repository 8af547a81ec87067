"""Does a face tremble, move while nobody speaks, or jump where windows of motion join?

Axes: t video frames, m motion. Positions are pixels.
"""

import numpy as np
from jaxtyping import Float
from torch import Tensor

from mien.evaluation.lips import NOWHERE, Mouth, ratio
from mien.evaluation.points import Points
from mien.metrics import seam_ratio

# Points that expressions hardly move: bridge of the nose, corners of the eyes, forehead.
STABLE = (168, 6, 197, 195, 33, 133, 362, 263, 10, 151, 9, 109, 338)


def trembling(points: Points) -> float:
    """Mean second difference over frames of the stable points in the picture, pixels a frame²."""
    if len(points) < 3:
        return NOWHERE
    second = np.diff(points[:, list(STABLE), :2].astype(np.float64), n=2, axis=0)
    return float(np.linalg.norm(second, axis=-1).mean())


def silence_share(mouth: Mouth, gate: Float[np.ndarray, " t"]) -> float:
    """Mean speed of the lips while the gate of speech is shut, over that while it is open.

    NaN where it is never the one or never the other.
    """
    speed = np.hypot(np.diff(mouth.gap), np.diff(mouth.width))
    open_ = gate[1 : len(mouth)] > 0.5
    if open_.all() or not open_.any():
        return NOWHERE
    return ratio(float(speed[~open_].mean()), float(speed[open_].mean()))


def join_ratio(motion: Float[Tensor, "1 t m"], seams: list[int]) -> float:
    """Mean speed of motion where windows join over the speed elsewhere; NaN within one window."""
    return seam_ratio(motion, seams) if seams else NOWHERE
