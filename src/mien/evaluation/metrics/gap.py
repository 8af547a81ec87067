"""Do the lips part when those of the reference do, and as far?"""

from mien.evaluation.comparison import Comparison, Task
from mien.evaluation.metric import ClipMetric
from mien.evaluation.series import pearson, slope


class Gap(ClipMetric):
    """Pearson's r of the lip gap with the reference's, both over the distance of the eyes; at lag 0
    only, since a search would inflate it.
    """

    name = "gap"
    tasks = frozenset({Task.SPEECH, Task.CROSS})
    second_landmarks = True

    def of_clip(self, pair: Comparison) -> float:
        """Over the frames of the clip."""
        return pearson(pair.clip.mouth.gap, pair.reference.mouth.gap)


class GapSlope(ClipMetric):
    """By how much the lip gap changes where the driver's changes by 1 (least squares)."""

    name = "gap_slope"
    tasks = frozenset({Task.CROSS})
    second_landmarks = True

    def of_clip(self, pair: Comparison) -> float:
        """Over the frames of the clip."""
        return slope(pair.clip.mouth.gap, pair.reference.mouth.gap)
