"""Do the lips rest while nobody speaks?"""

import numpy as np

from mien.evaluation.comparison import Comparison, Task
from mien.evaluation.metric import ClipMetric
from mien.evaluation.points import Mouth
from mien.evaluation.series import UNKNOWN, Series, ratio


class Silence(ClipMetric):
    """Mean speed of the lips while nobody speaks, over that while somebody does."""

    name = "silence"
    tasks = frozenset({Task.SPEECH})

    def of_clip(self, pair: Comparison) -> float:
        """Over the frames of the clip."""
        return UNKNOWN if pair.speaking is None else speed_ratio(pair.clip.mouth, pair.speaking)


def speed_ratio(mouth: Mouth, speaking: Series) -> float:
    """Of the lips in silence over speech; NaN where it is never the one or never the other."""
    speed = np.hypot(np.diff(mouth.gap), np.diff(mouth.width))
    spoken = speaking[1:] > 0.5
    if spoken.all() or not spoken.any():
        return UNKNOWN
    return ratio(float(speed[~spoken].mean()), float(speed[spoken].mean()))
