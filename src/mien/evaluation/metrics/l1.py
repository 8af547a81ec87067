"""Mean absolute difference of whole pictures."""

from jaxtyping import Float
from torch import Tensor

from mien.evaluation.comparison import Comparison, Task
from mien.evaluation.metric import FrameMetric


class L1(FrameMetric):
    """Mean absolute difference of each frame, on a scale where black to white is 1 (FOMM)."""

    name = "l1"
    tasks = frozenset({Task.REENACT})

    def of_frames(self, pair: Comparison) -> Float[Tensor, " t"]:
        """Of the whole frame."""
        error = (pair.clip.pictures.clamp(-1, 1) - pair.reference.pictures).abs()
        return error.mean(dim=(1, 2, 3)) / 2
