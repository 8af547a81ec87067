"""A face at rest and in its neutral state, and what is measured of lips.

Faces are in head coordinates (`mien.mesh.alignment`): the unit is the distance of the eyes.
Axes: t video frames, n points.
"""

import numpy as np
from jaxtyping import Float

from mien.face.geometry import Array
from mien.mesh.topology import (
    CORNERS,
    EYE_CORNERS,
    INNER,
    LIP_RINGS,
    LIPS,
    Points,
    mean_face,
)

# How much of a lip gap each ring of points closes, outermost first.
_CLOSES = dict(zip(LIP_RINGS, (0.8, 0.92, 1.0, 1.0), strict=True))
_UPPER = 0.4  # the upper lip's part of it; the lower one does the rest
_RELAXED = 0.7  # the share of a smile that is taken away
_SPREAD = 0.3  # deviation (eye distances) over which lips take the face along
_RATIO = (0.8, 1.3)  # bounds of the ratio of two people's mouth widths


def rest_of(heads: Float[Array, "t 468 3"]) -> Points:
    """The driver at rest: the mean of the four frames whose lips are nearest each other."""
    return heads[np.argsort(middle_gap(heads), kind="stable")[:4]].mean(axis=0)


def neutral(head: Points) -> Points:
    """The face with closed lips and a relaxed smile (widths and corners of the mean face)."""
    moves = np.zeros_like(head)
    for ring, share in _CLOSES.items():
        for i, gap in zip(
            range(1, 10), head[list(INNER[:10:-1])] - head[list(INNER[1:10])], strict=True
        ):
            moves[ring[i]] += share * _UPPER * gap
            moves[ring[20 - i]] -= share * (1 - _UPPER) * gap
    closed = head + moves
    middle = closed[[13, 14]].mean(axis=0)
    width, wanted = mouth_width(closed), mouth_width(mean_face())
    lips = closed[list(LIPS)] - middle
    moves[list(LIPS), 0] -= lips[:, 0] * _RELAXED * max(0.0, width - wanted) / width
    raised = min(0.0, _corner_height(closed) - _corner_height(mean_face()))
    aside = np.clip((lips[:, 0] / (width / 2)) ** 2, 0, 1.2)
    moves[list(LIPS), 1] -= _RELAXED * raised * aside
    return head + _spread(head, moves)


def lip_gaps(heads: Float[Array, "t 468 3"]) -> Float[Array, "t 9"]:
    """How far each of nine pairs of inner lip points is apart, from the upper one down."""
    return heads[:, list(INNER[:10:-1]), 1] - heads[:, list(INNER[1:10]), 1]


def middle_gap(heads: Float[Array, "t 468 3"]) -> Float[Array, " t"]:
    """The lip gap in the middle of the mouth, by which frames at rest are found."""
    return lip_gaps(heads)[:, 3:6].mean(axis=1)


def mouth_width(head: Points) -> float:
    """Between the corners of the lips."""
    return float(np.linalg.norm((head[CORNERS[1]] - head[CORNERS[0]])[:2]))


def mouth_ratio(head: Points) -> float:
    """The mouth's width over the mean face's, within bounds."""
    return float(np.clip(mouth_width(head) / mouth_width(mean_face()), *_RATIO))


def proportion(head: Points) -> Float[Array, " n"]:
    """What a motion of the mean face becomes on this one: the mouth in proportion to its width."""
    mouth = _mouth_zone(head)
    return 1 + mouth * (mouth_ratio(head) - 1)


def _corner_height(head: Points) -> float:
    """How far the lips' corners lie below the middle of the mouth."""
    return float((head[list(CORNERS)].mean(axis=0) - head[[13, 14]].mean(axis=0))[1])


def _mouth_zone(head: Points) -> Float[Array, " n"]:
    """1 below the nose, falling to 0 towards the eyes."""
    eyes, nose = head[list(EYE_CORNERS), 1].mean(), head[2, 1]
    return np.clip((head[:, 1] - (eyes + 0.5 * (nose - eyes))) / (0.35 * (nose - eyes)), 0, 1)


def _spread(head: Points, moves: Points) -> Points:
    """Lips' moves given to the face around them, the nearer the more."""
    lips = list(LIPS)
    squares = np.square(head[:, None, :2] - head[None, lips, :2]).sum(axis=-1)
    weights = np.exp(-squares / (2 * (0.6 * _SPREAD) ** 2)) + 1e-12
    near = np.exp(-squares.min(axis=1) / (2 * _SPREAD**2))
    spread = weights @ moves[lips] / weights.sum(axis=1, keepdims=True) * near[:, None]
    spread[lips] = moves[lips]
    return spread
