"""Many scores as one: means and medians of every figure, and people who count alike."""

from collections.abc import Callable, Sequence
from dataclasses import fields
from statistics import fmean, median
from typing import Any, TypeVar

from mien.data.datasets import by_identity
from mien.data.manifest import ClipRecord

Score = TypeVar("Score")  # a dataclass of numbers


def mean_of(scores: Sequence[Score]) -> Score:
    """The mean of every figure; what is not known (NaN) is left out."""
    return _joined(scores, fmean)


def median_of(scores: Sequence[Score]) -> Score:
    """The median of every figure; what is not known (NaN) is left out."""
    return _joined(scores, median)


def mean_by_identity(scored: Sequence[tuple[ClipRecord, Score]]) -> dict[str, Score]:
    """The mean of each person's clips."""
    score_of = {record.path: score for record, score in scored}
    people = by_identity([record for record, _ in scored])
    return {
        clips[0].identity: mean_of([score_of[record.path] for record in clips]) for clips in people
    }


def _joined(scores: Sequence[Score], join: Callable[[list[float]], float]) -> Score:
    kind: Any = type(scores[0])

    def figure(name: str) -> float:
        values = [value for score in scores if (value := getattr(score, name)) == value]
        return join(values) if values else float("nan")

    return kind(**{field.name: figure(field.name) for field in fields(kind)})
