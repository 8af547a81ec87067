"""Does motion jump where its windows join? Axes: t video frames, m motion."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from mien.evaluation.comparison import Comparison, Task
from mien.evaluation.metric import ClipMetric
from mien.evaluation.series import UNKNOWN


class Joins(ClipMetric):
    """Mean speed of motion where windows join over that elsewhere; 1 is invisible."""

    name = "joins"
    tasks = frozenset({Task.SPEECH})

    def of_clip(self, pair: Comparison) -> float:
        """Of the motion that the clip was drawn from."""
        return UNKNOWN if pair.motion is None else join_ratio(pair.motion, pair.joins)


def join_ratio(motion: Float[Tensor, "1 t m"], joins: Sequence[int]) -> float:
    """Mean speed into the frames `joins`, over the mean speed elsewhere; NaN within one window."""
    if not joins:
        return UNKNOWN
    speed = motion[0].diff(dim=0).norm(dim=-1)
    at = torch.zeros_like(speed, dtype=torch.bool)
    at[[join - 1 for join in joins]] = True
    return float(speed[at].mean() / speed[~at].mean().clamp_min(1e-12))
