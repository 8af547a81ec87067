"""Base classes of metrics: each metric is a class in `mien.evaluation.metrics`, found by discovery.

Its docstring is shown on the page, its `name` heads a column of every table, and it is skipped with
a note if its constructor raises a UserError (a package that is not installed). The base class
determines whether it scores a frame, a clip or a set of clips.

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
    """A named figure, and the tasks it applies to."""

    name: ClassVar[str]
    tasks: ClassVar[frozenset[Task]] = frozenset(Task)

    @classmethod
    def meaning(cls) -> str:
        """The docstring in one line."""
        return f"{cls.name}: {' '.join((inspect.getdoc(cls) or '').split())}"


class ClipMetric(Metric):
    """One figure per clip. With `second_landmarks` it is also reported as second_<name>, from the
    landmarks of another net: it must depend on landmarks alone.
    """

    second_landmarks: ClassVar[bool] = False

    @abstractmethod
    def of_clip(self, pair: Comparison) -> float:
        """The figure; NaN where it cannot be known."""


class FrameMetric(ClipMetric):
    """One figure per frame; that of a clip is their mean."""

    @abstractmethod
    def of_frames(self, pair: Comparison) -> Float[Tensor, " t"]:
        """The figures of the frames that it evaluates; NaN where unknown."""

    def of_clip(self, pair: Comparison) -> float:
        """The mean over the frames whose figure is known."""
        return float(torch.nanmean(self.of_frames(pair)))


class SetMetric(Metric):
    """One figure for all clips together, from features of each clip; frames are not kept."""

    @abstractmethod
    def features(self, pair: Comparison) -> Features:
        """The features of a clip; no rows if it has none."""

    @abstractmethod
    def of_set(self, clips: Sequence[Features], references: Sequence[Features]) -> float:
        """The figure of all clips beside all references; NaN where it cannot be known."""
