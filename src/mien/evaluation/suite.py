"""All metrics of one evaluation: found in `mien.evaluation.metrics`, loaded once."""

import inspect
import pkgutil
from collections.abc import Mapping
from importlib import import_module

from mien.errors import UserError
from mien.evaluation import metrics
from mien.evaluation.comparison import Comparison, Task
from mien.evaluation.metric import ClipMetric, Features, Metric, SetMetric
from mien.evaluation.series import UNKNOWN

Scores = dict[str, float]  # by the names of metrics


def all_metrics() -> list[type[Metric]]:
    """Every metric of the package, by name.

    Raises:
        ValueError: two metrics of one level have one name.
    """
    found: dict[tuple[bool, str], type[Metric]] = {}
    for file in pkgutil.iter_modules(metrics.__path__):
        module = import_module(f"{metrics.__name__}.{file.name}")
        for kind in vars(module).values():
            if not (inspect.isclass(kind) and issubclass(kind, Metric)):
                continue
            if kind.__module__ != module.__name__ or inspect.isabstract(kind):
                continue
            key = issubclass(kind, SetMetric), kind.name
            if key in found:
                raise ValueError(f"{kind} and {found[key]} are both named {kind.name}")
            found[key] = kind
    return [found[key] for key in sorted(found)]


class Suite:
    """The metrics of a task. `reference` is the name of the row that holds the references.

    `notes` say which metrics are left out, and why.
    """

    def __init__(self, task: Task, reference: str) -> None:
        self.reference, self.notes = reference, list[str]()
        self.metrics: list[ClipMetric] = []
        self.set_metrics: list[SetMetric] = []
        self._left_out: Scores = {}
        self._features: dict[str, dict[str, list[Features]]] = {}
        for kind in all_metrics():
            if task not in kind.tasks:
                continue
            try:
                metric = kind()
            except UserError as error:
                self.notes.append(f"{kind.name} is left out: {error}")
                if issubclass(kind, ClipMetric):
                    self._left_out[kind.name] = UNKNOWN
                continue
            if isinstance(metric, SetMetric):
                self.set_metrics.append(metric)
            elif isinstance(metric, ClipMetric):
                self.metrics.append(metric)

    def meaning(self) -> str:
        """What every figure means, one a line."""
        return "\n".join(metric.meaning() for metric in (*self.metrics, *self.set_metrics))

    def score(self, rows: Mapping[str, Comparison]) -> dict[str, Scores]:
        """The scores of a clip and of its baselines; features for set metrics are kept."""
        for row, pair in rows.items():
            for metric in self.set_metrics:
                kept = self._features.setdefault(metric.name, {}).setdefault(row, [])
                kept.append(metric.features(pair))
        return {row: self._of_clip(pair) for row, pair in rows.items()}

    def _of_clip(self, pair: Comparison) -> Scores:
        scores = {metric.name: metric.of_clip(pair) for metric in self.metrics} | self._left_out
        if pair.second is not None:
            for metric in self.metrics:
                if metric.second_landmarks:
                    scores[f"second_{metric.name}"] = metric.of_clip(pair.second)
        return scores

    def of_set(self) -> dict[str, Scores]:
        """The scores of all clips together, where at least one is known."""
        scores: dict[str, Scores] = {}
        for metric in self.set_metrics:
            for row, clips in self._features[metric.name].items():
                references = self._features[metric.name][self.reference]
                scores.setdefault(row, {})[metric.name] = metric.of_set(clips, references)
        return {row: known for row, known in scores.items() if any(v == v for v in known.values())}
