"""The weights that validation and inference use: an average over the last steps."""

from typing import Any

from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

WARMUP = 10.0  # a young average looks back over a ninth of its steps


class WarmedUpAverage(WeightAveraging):
    """Lightning's average of weights, exponential, whose memory grows with the run.

    A plain average with a decay of 0.999 still holds half of the untrained weights after 700 steps;
    this one has forgotten them. Running statistics are taken as they are.

    Args:
        decay: share of the old average that a late step keeps.
    """

    def __init__(self, decay: float = 0.999) -> None:
        def average(averaged: Any, current: Any, count: Tensor | int) -> None:
            n = float(count)
            average_with = get_ema_multi_avg_fn(min(decay, (1 + n) / (WARMUP + n)))
            average_with(averaged, current, count)

        super().__init__(use_buffers=False, multi_avg_fn=average)
