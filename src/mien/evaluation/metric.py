"""What a metric is: a class in a file of `mien.evaluation.metrics`, where it is found by itself.

Its docstring stands on the page of findings, its `name` over a column of every table, and it is
left out with a sentence where its constructor raises a UserError (a package that is not installed).
Frame, clip and set level are told apart by the class that it derives from.

Axes: t video frames.
"""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from mien.evaluation.comparison import Comparison, Task

Features = Float[ndarray, "_ _"]  # rows of one clip, as many as it needs


class Metric(ABC):
    """A figure with a name, and the tasks in which it says something."""

    name: ClassVar[str]
    tasks: ClassVar[frozenset[Task]] = frozenset(Task)

    @classmethod
    def meaning(cls) -> str:
        """The docstring in one line."""
        return f"{cls.name}: {' '.join((inspect.getdoc(cls) or '').split())}"


class ClipMetric(Metric):
    """One figure a clip. With `second_landmarks` it is also taken as second_<name> where another
    net has found landmarks: it sees nothing else.
    """

    second_landmarks: ClassVar[bool] = False

    @abstractmethod
    def of_clip(self, pair: Comparison) -> float:
        """The figure; NaN where it cannot be known."""


class FrameMetric(ClipMetric):
    """One figure a frame; that of a clip is their mean."""

    @abstractmethod
    def of_frames(self, pair: Comparison) -> Float[Tensor, " t"]:
        """The figures of the frames that it looks at; NaN where one cannot be known."""

    def of_clip(self, pair: Comparison) -> float:
        """The mean over the frames whose figure is known."""
        return float(torch.nanmean(self.of_frames(pair)))


class SetMetric(Metric):
    """One figure for all clips together, from features of each: frames are never held."""

    @abstractmethod
    def features(self, pair: Comparison) -> Features:
        """What is kept of a clip; no rows where it says nothing."""

    @abstractmethod
    def of_set(self, clips: Sequence[Features], references: Sequence[Features]) -> float:
        """The figure of all clips beside all references; NaN where it cannot be known."""
