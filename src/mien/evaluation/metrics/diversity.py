"""How differently do faces move from clip to clip? Axes: t video frames."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from mien.evaluation.comparison import Comparison
from mien.evaluation.metric import Features, SetMetric
from mien.evaluation.series import UNKNOWN
from mien.mesh.alignment import eye_distance

FRAMES = 80  # 3.2 s, the clips that DIV is defined on


class Diversity(SetMetric):
    """DIV: mean distance between the motions of two clips, over all pairs of clips; the references'
    own stands beside it. A motion is where the landmarks of up to 80 frames are, from their mean
    over these frames, in distances of the eyes; the distance of two is the root mean square of
    their difference. (The definition in the literature takes features of a pose auto-encoder: its
    figures do not compare.)
    """

    name = "diversity"

    def features(self, pair: Comparison) -> Features:
        """A row a frame: the landmarks' x and y from their means."""
        points = pair.clip.points[:FRAMES]
        if not np.isfinite(points).all():
            return np.zeros((0, 0))
        flat = points[..., :2].reshape(len(points), -1).astype(np.float64)
        eyes = np.mean([eye_distance(face) for face in points])
        return (flat - flat.mean(axis=0)) / eyes

    def of_set(self, clips: Sequence[Features], references: Sequence[Features]) -> float:
        """Over all pairs, each over the frames that both have."""
        known = [clip for clip in clips if len(clip)]
        apart = []
        for one, other in combinations(known, 2):
            count = min(len(one), len(other))
            apart.append(np.sqrt(np.square(one[:count] - other[:count]).mean()))
        return float(np.mean(apart)) if apart else UNKNOWN
