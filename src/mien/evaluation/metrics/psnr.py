"""PSNR of whole pictures."""

from jaxtyping import Float
from torch import Tensor

from mien import metrics
from mien.evaluation.comparison import Comparison, Task
from mien.evaluation.metric import FrameMetric


class Psnr(FrameMetric):
    """Peak signal-to-noise ratio of each frame in dB; equal frames score 100."""

    name = "psnr"
    tasks = frozenset({Task.REENACT})

    def of_frames(self, pair: Comparison) -> Float[Tensor, " t"]:
        """Of the whole frame."""
        return metrics.psnr(pair.clip.pictures, pair.reference.pictures)
