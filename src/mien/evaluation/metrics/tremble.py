"""Jitter of the head."""

import numpy as np

from mien.evaluation.comparison import Comparison
from mien.evaluation.metric import ClipMetric
from mien.evaluation.points import Points
from mien.evaluation.series import UNKNOWN, ratio

# Points that expressions hardly move: bridge of the nose, corners of the eyes, forehead.
STABLE = (168, 6, 197, 195, 33, 133, 362, 263, 10, 151, 9, 109, 338)


class Tremble(ClipMetric):
    """Mean second difference over frames of points that expressions hardly move, over that of the
    reference; unknown where frames are left out.
    """

    name = "tremble"

    def of_clip(self, pair: Comparison) -> float:
        """Of the clip over the reference."""
        if not pair.every_frame:
            return UNKNOWN
        return ratio(second_difference(pair.clip.points), second_difference(pair.reference.points))


def second_difference(points: Points) -> float:
    """Its mean length for the stable points in the picture, pixels a frame²."""
    if len(points) < 3:
        return UNKNOWN
    second = np.diff(points[:, list(STABLE), :2].astype(np.float64), n=2, axis=0)
    return float(np.linalg.norm(second, axis=-1).mean())
