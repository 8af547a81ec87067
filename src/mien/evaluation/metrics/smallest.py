"""How near do the lips come to each other?"""

from mien.evaluation.comparison import Comparison, Task
from mien.evaluation.metric import ClipMetric


class Smallest(ClipMetric):
    """The smallest lip gap of the clip, over the distance of the eyes."""

    name = "smallest"
    tasks = frozenset({Task.CROSS})

    def of_clip(self, pair: Comparison) -> float:
        """Over the frames of the clip."""
        return float(pair.clip.mouth.gap.min())


class Rest(ClipMetric):
    """The lip gap of the portrait (of the driver: at its rest), over the distance of the eyes."""

    name = "rest"
    tasks = frozenset({Task.CROSS})

    def of_clip(self, pair: Comparison) -> float:
        """Of the one frame."""
        return float(pair.portrait.mouth.gap[0])
