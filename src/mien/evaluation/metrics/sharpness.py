"""How sharp the face is."""

import numpy as np

from mien.evaluation.comparison import Comparison, Task
from mien.evaluation.masks import Masks
from mien.evaluation.metric import ClipMetric
from mien.evaluation.series import ratio
from mien.media import Frames


class Sharpness(ClipMetric):
    """Mean gradient inside the face over that of the same person's real face: of the reference
    clip, or of the portrait where a stranger drives it.
    """

    name = "sharpness"

    def of_clip(self, pair: Comparison) -> float:
        """Drawn over real."""
        real = pair.portrait if pair.task is Task.CROSS else pair.reference
        # Redrawn frames show the face where the real ones do.
        own = pair.reference.faces if pair.task is Task.REENACT else pair.clip.faces
        return ratio(gradient(pair.clip.frames, own), gradient(real.frames, real.faces))


def gradient(frames: Frames, masks: Masks) -> float:
    """Mean gradient magnitude of the brightness inside the masks, in grey levels a pixel."""
    sums = count = 0.0
    for frame, mask in zip(frames, masks, strict=True):
        down, across = np.gradient(frame.astype(np.float32).mean(axis=2))
        sums += float(np.hypot(down, across)[mask].sum())
        count += float(mask.sum())
    return ratio(sums, count)
