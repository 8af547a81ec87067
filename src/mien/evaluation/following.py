"""What both metrics of following share: faces paired by frame number, and the mean over clips.

A face that was lost in one of the two videos takes its frame out of both; pairing by index, as the
authors' code does, would shift all frames after it.
Axes: n clips.
"""

from collections.abc import Sequence

import numpy as np

from mien.evaluation.comparison import Comparison
from mien.evaluation.metric import ClipMetric, Features, SetMetric
from mien.evaluation.series import UNKNOWN, ratio
from mien.face_model.coefficients import FaceCoefficients

LEAST = 2  # frames: the first is the one that the others are compared with


def paired(
    one: FaceCoefficients, other: FaceCoefficients
) -> tuple[FaceCoefficients, FaceCoefficients]:
    """Both at the frames that both have, in order."""
    _, here, there = np.intersect1d(one.frames, other.frames, return_indices=True)
    return one.at(here), other.at(there)


def fitted(pair: Comparison) -> tuple[FaceCoefficients, FaceCoefficients] | None:
    """The fitted faces of clip and reference, paired; None with less than LEAST common frames."""
    one, other = pair.clip.fit, pair.reference.fit
    if one is None or other is None:
        return None
    both = paired(one, other)
    return both if len(both[0]) >= LEAST else None


def counted(score: float, pair: Comparison) -> Features:
    """A clip's score and the number of frames that it was computed from; no row if unknown."""
    both = fitted(pair)
    if both is None or score != score:
        return np.zeros((0, 2))
    return np.array([(score, float(len(both[0])))])


def weighted_mean(clips: Sequence[Features]) -> float:
    """The mean of the scores, weighted by frames (the authors' T / 16; the 16 cancels)."""
    rows = np.concatenate(clips) if clips else np.zeros((0, 2))
    return ratio(float(rows.prod(axis=1).sum()), float(rows[:, 1].sum())) if len(rows) else UNKNOWN


class WeightedMean(SetMetric):
    """A clip's metric over all clips: their mean weighted by the frames with a face in both."""

    of: ClipMetric

    def features(self, pair: Comparison) -> Features:
        """Score and weight."""
        return counted(self.of.of_clip(pair), pair)

    def of_set(self, clips: Sequence[Features], references: Sequence[Features]) -> float:
        """The weighted mean."""
        return weighted_mean(clips)
