"""Do the lips move as much as the real ones?"""

from mien.evaluation.comparison import Comparison, Task
from mien.evaluation.metric import ClipMetric
from mien.evaluation.series import ratio


class Spread(ClipMetric):
    """Standard deviation of the lip gap over the real one's."""

    name = "spread"
    tasks = frozenset({Task.SPEECH})

    def of_clip(self, pair: Comparison) -> float:
        """Over the frames of the clip."""
        return ratio(float(pair.clip.mouth.gap.std()), float(pair.reference.mouth.gap.std()))
