"""Mean absolute difference in the mouth box."""

import torch
from jaxtyping import Float
from torch import Tensor

from mien.evaluation.comparison import Comparison, Task
from mien.evaluation.metric import FrameMetric
from mien.evaluation.series import UNKNOWN
from mien.metrics import mouth_l1


class MouthL1(FrameMetric):
    """L1 in the mouth box of the manifest, black to white being 1; unknown where it has none."""

    name = "mouth"
    tasks = frozenset({Task.REENACT})

    def of_frames(self, pair: Comparison) -> Float[Tensor, " t"]:
        """In the mouth box."""
        drawn, wanted = pair.clip.pictures, pair.reference.pictures
        if pair.mouth_map is None:
            return torch.full((len(drawn),), UNKNOWN)
        return mouth_l1(drawn, wanted, pair.mouth_map.to(wanted).expand(len(drawn), -1, -1, -1))
