"""Do the lips follow the sounds, not only the sentence?"""

from mien.evaluation.comparison import Comparison, Task
from mien.evaluation.metric import ClipMetric
from mien.evaluation.series import pearson
from mien.metrics import without_slow


class Fast(ClipMetric):
    """Pearson's r of the lip gap with the real one, both high-pass filtered (faster than 0.6 s)."""

    name = "fast"
    tasks = frozenset({Task.SPEECH})

    def of_clip(self, pair: Comparison) -> float:
        """Over the frames of the clip."""
        return pearson(without_slow(pair.clip.mouth.gap), without_slow(pair.reference.mouth.gap))
