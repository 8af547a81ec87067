"""Does the mouth widen when that of the reference does, and as far?"""

from mien.evaluation.comparison import Comparison, Task
from mien.evaluation.metric import ClipMetric
from mien.evaluation.series import pearson, slope


class Width(ClipMetric):
    """Pearson's r of the mouth's width with the reference's, both over the distance of the eyes."""

    name = "width"
    tasks = frozenset({Task.SPEECH, Task.CROSS})
    second_landmarks = True

    def of_clip(self, pair: Comparison) -> float:
        """Over the frames of the clip."""
        return pearson(pair.clip.mouth.width, pair.reference.mouth.width)


class WidthSlope(ClipMetric):
    """By how much the mouth's width changes where the driver's changes by 1 (least squares)."""

    name = "width_slope"
    tasks = frozenset({Task.CROSS})
    second_landmarks = True

    def of_clip(self, pair: Comparison) -> float:
        """Over the frames of the clip."""
        return slope(pair.clip.mouth.width, pair.reference.mouth.width)
