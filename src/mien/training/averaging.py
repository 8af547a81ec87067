"""The weights that validation and inference use: an exponential moving average (EMA)."""

from typing import Any

from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

WARMUP = 10.0  # EMA decay warm-up: after n steps decay = min(decay, (1 + n) / (WARMUP + n))


class WarmedUpAverage(WeightAveraging):
    """Lightning's EMA of the weights, with a decay that is warmed up.

    With a constant decay of 0.999 half of the average is still the untrained weights after 700
    steps; the warm-up removes them. Buffers (running statistics) are copied, not averaged.

    Args:
        decay: decay of the EMA after the warm-up.
    """

    def __init__(self, decay: float = 0.999) -> None:
        def average(averaged: Any, current: Any, count: Tensor | int) -> None:
            n = float(count)
            average_with = get_ema_multi_avg_fn(min(decay, (1 + n) / (WARMUP + n)))
            average_with(averaged, current, count)

        super().__init__(use_buffers=False, multi_avg_fn=average)
