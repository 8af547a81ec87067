"""Does the face make the driver's expressions? Loki's expression following, on offset maps.

The clip's expression and gaze are put on the driver's fitted face (his identity, pose and camera),
so that neither pose nor identity enters; both faces' offset maps are compared on the pixels of the
driver's mesh. Fitted with ICT-FaceKit's model: figures do not compare with the paper's (FLAME).
"""

from dataclasses import replace

import numpy as np

from mien.evaluation.comparison import Comparison, Task
from mien.evaluation.following import WeightedMean, fitted
from mien.evaluation.metric import ClipMetric
from mien.evaluation.series import UNKNOWN
from mien.face_model.coefficients import FaceCoefficients
from mien.face_model.maps import draw_maps, head_box
from mien.face_model.parametric import FaceModel

SIZE = 512  # pixels of the maps, as in the authors' repository


class ExpressionFollowing(ClipMetric):
    """Mean absolute difference between the maps of expression offsets of clip and driver (paper:
    Loki), in standard deviations of an offset, fitted with ICT-FaceKit's model. Lower is better.
    """

    name = "expression"
    tasks = frozenset({Task.FOLLOW, Task.FOLLOW_OTHER})

    def of_clip(self, pair: Comparison) -> float:
        """Over the frames in which both faces were found."""
        if self.name not in pair.known:
            both = fitted(pair)
            pair.known[self.name] = UNKNOWN if both is None else offset_difference(*both)
        return pair.known[self.name]


class ExpressionFollowingOfAll(WeightedMean):
    """expression of all clips: their mean weighted by the frames with a face in both."""

    name = "expression"
    tasks = ExpressionFollowing.tasks
    of = ExpressionFollowing()


def offset_difference(
    one: FaceCoefficients, wanted: FaceCoefficients, model: FaceModel | None = None
) -> float:
    """Mean over frames of the mean over channels and the pixels of the wanted face; the frames of
    both are the same. `model`: the one of the fits (default: the one that ships).
    """
    model = model or FaceModel.load()
    moved = replace(wanted, expression=one.expression, eyes=one.eyes)
    differences = []
    for t in range(len(wanted)):
        target, made = wanted.at(slice(t, t + 1)), moved.at(slice(t, t + 1))
        box = head_box(model, target)
        true, drawn = (draw_maps(model, face, box, SIZE) for face in (target, made))
        apart = np.abs(drawn.offsets - true.offsets).mean(axis=1)
        differences.append(float(apart[true.covered].mean()))
    return float(np.mean(differences))
