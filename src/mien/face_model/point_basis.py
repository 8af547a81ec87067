"""FaceMesh's points as a linear function of identity and expression, and its products.

Axes: m points, q axes (the fitted expressions, then identity), e expression axes of the model.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Int

from mien.errors import UserError
from mien.face.geometry import Array
from mien.face_model.parametric import FaceModel
from mien.mesh.topology import LIDS, LIPS, OVAL, POINTS

# Identity axes that are fitted: a standard deviation of the next ones moves the points by less
# than 0.014 cm, a tenth of FaceMesh's own error.
IDENTITY_AXES = 50
# Axes that are not fitted to the points: where the eyes look moves the lids (set from the gaze),
# and cheekRaiser, which ARKit lacks, does what cheekSquint does.
_UNFITTED = ("eyeLook", "cheekRaiser")
# FaceMesh's outline is its least certain part; lips and lids carry the expression in few pixels.
_OUTLINE_WEIGHT, _LIP_WEIGHT, _LID_WEIGHT = 0.3, 2.0, 6.0
# Points of the folds above the lids: a blink moves the model's, and hardly either net's.
_FOLDS, _FOLD_WEIGHT = (27, 28, 29, 30, 56, 247, 257, 258, 259, 260, 286, 467), 0.1


@dataclass(frozen=True)
class PointBasis:
    """Points of the neutral person and how axes move them (model axes, centimetres).

    The first axes are the expressions of the numbers `fitted`, the rest is identity. `columns`
    hold the same by coordinate (x of all points and axes, y, z) in single precision, and
    `expression_columns` those of expressions alone.
    """

    neutral: Float[Array, "m 3"]
    axes: Float[Array, "q m 3"]
    fitted: Int[Array, " f"]
    weights: Float[Array, " m"]
    columns: Float32[Array, "3 mq"]
    expression_columns: Float32[Array, "3 mf"]

    @classmethod
    def of(cls, model: FaceModel, count: int = POINTS) -> "PointBasis":
        """The points of a model as the net sees them that gives `count` points.

        Raises:
            UserError: the model's file does not say where they are.
        """
        if model.points is None:
            raise UserError(
                "this face model has no FaceMesh points, so nothing can be fitted with it: "
                "make its file again with its landmarks"
            )
        fitted = np.array(
            [n for n, name in enumerate(model.expression_names) if not name.startswith(_UNFITTED)]
        )
        people = model.identity_axes[:IDENTITY_AXES]
        axes = np.concatenate([model.expression_axes[fitted], people])
        placed = model.points.read(axes).astype(np.float64)
        neutral = model.points.read(model.neutral).astype(np.float64) + model.points.shifts_of(
            count
        )
        columns, alone = _columns(placed), _columns(placed[: len(fitted)])
        return cls(neutral, placed, fitted, _weights(), columns, alone)

    @property
    def expressions(self) -> int:
        """How many of the axes are expressions."""
        return len(self.fitted)

    def shape(self, values: Float[Array, "*t q"], first: int = 0) -> Float[Array, "*t m 3"]:
        """What the axes from number `first` on add to the points."""
        axes = self.axes[first : first + values.shape[-1]]
        moved = values @ axes.reshape(len(axes), -1)
        return moved.reshape(*values.shape[:-1], -1, 3)


def _weights() -> Float[Array, " m"]:
    weights = np.ones(POINTS)
    weights[list(OVAL)] = _OUTLINE_WEIGHT
    weights[list(LIPS)] = _LIP_WEIGHT
    weights[list(_FOLDS)] = _FOLD_WEIGHT
    weights[[point for eye in LIDS for lid in eye for point in lid]] = _LID_WEIGHT
    return weights


def _columns(axes: Float[Array, "q m 3"]) -> Float32[Array, "3 mq"]:
    return axes.transpose(2, 1, 0).reshape(3, -1).astype(np.float32)
