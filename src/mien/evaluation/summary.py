"""Aggregation of scores: means and medians of every figure, over clips or people."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, median

from mien.evaluation.suite import Scores


@dataclass(frozen=True)
class Scored:
    """A clip, or a pair of portrait and clip: its name, whose face it shows, and the scores of the
    generated frames and of each baseline.
    """

    name: str
    person: str
    scores: dict[str, Scores]


def mean_of(scores: Sequence[Scores]) -> Scores:
    """The mean of every figure; what is not known (NaN) is left out."""
    return _joined(scores, fmean)


def median_of(scores: Sequence[Scores]) -> Scores:
    """The median of every figure; what is not known (NaN) is left out."""
    return _joined(scores, median)


def by_row(
    scored: Sequence[dict[str, Scores]], join: Callable[[Sequence[Scores]], Scores]
) -> dict[str, Scores]:
    """The generated frames and each baseline, aggregated over clips or people."""
    rows = dict.fromkeys(row for scores in scored for row in scores)
    return {row: join([scores[row] for scores in scored if row in scores]) for row in rows}


def mean_by_person(scored: Sequence[Scored]) -> dict[str, dict[str, Scores]]:
    """The mean of each person's clips, people in alphabetical order."""
    people = sorted({each.person for each in scored})
    return {
        who: by_row([each.scores for each in scored if each.person == who], mean_of)
        for who in people
    }


def _joined(scores: Sequence[Scores], join: Callable[[list[float]], float]) -> Scores:
    def figure(name: str) -> float:
        values = [s[name] for s in scores if name in s and s[name] == s[name]]
        return join(values) if values else float("nan")

    return {name: figure(name) for name in dict.fromkeys(n for each in scores for n in each)}
