"""Where FaceMesh's points lie on a face model's surface: a triangle and three weights for each.

Found once per model by `register` (tools/make_face_model.py) and stored with it:
1. FaceMesh's mean face is laid over the model's neutral person by a similarity.
2. It is warped by thin plates until the landmarks lie on each other; those of the jaw, which have
   no exact place on it, pull less.
3. Each point takes the closest place of the skin that faces the viewer. Of lips that touch, the
   upper one's points lie on what `jawOpen` leaves in place and the lower one's on what it moves.
4. What then still lies between the mean face and these places is each point's shift: FaceMesh sets
   brows, cheeks and the outline elsewhere than the model has them, for everybody alike, and
   exaggerates depth; upper and lower lids, and the inner lips, are shifted alike, so that they
   shut when the model's do. Without the shifts a fit takes it for the person (measured on 131
   portraits: the mean identity is then 6.6 standard deviations long instead of 1.6, and the points
   lie 0.16 centimetres away instead of 0.07).
Axes: k triangles, m points, n vertices.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int

from mien.face.geometry import Array
from mien.mesh.alignment import similarity
from mien.mesh.topology import INNER, INWARD, LIDS, POINTS, mean_face

LANDMARKER_FACE = Path(__file__).parents[1] / "assets" / "mean_face_irises.npy"
IRISES = (473, 468)  # the landmarker's points in the middle of the left and the right iris
# FaceMesh's points for the 68 landmarks, from the person's right jaw on.
LANDMARKS_68 = (
    *(162, 234, 93, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 323, 454, 389),
    *(71, 63, 105, 66, 107, 336, 296, 334, 293, 301),
    *(168, 197, 5, 4, 75, 97, 2, 326, 305),
    *(33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380),
    *(61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181),
    *(78, 82, 13, 312, 308, 317, 14, 87),
)
DEPTH = np.array([1.0, 1.0, 0.88])  # FaceMesh's depth in units of its width and height
JAW = 17  # of the 68: the jaw's outline, which slides along the skin
_SMOOTHING = (3.0, 0.01)  # of the warp at loose landmarks and at the others
_NEAREST = 40  # triangles, by their middles, that are tried for the closest place
_FACING = 0.25  # largest z of the unit normal of skin that faces the viewer


@dataclass(frozen=True)
class Correspondence:
    """For every point of FaceMesh three vertices of the model and their weights.

    `shifts` are from there to where FaceMesh sets the point, `landmarker_shifts` to where
    MediaPipe's landmarker does, `iris_shifts` from the middles of the left and right eyeball to
    the landmarker's irises of who looks ahead, x and y only (all in model axes, centimetres).
    """

    corners: Int[Array, "m 3"]
    weights: Float[Array, "m 3"]
    shifts: Float[Array, "m 3"]
    landmarker_shifts: Float[Array, "m 3"]
    iris_shifts: Float[Array, "2 3"]

    def shifts_of(self, count: int) -> Float[Array, "m 3"]:
        """The shifts of whichever net gives that many points."""
        return self.shifts if count == POINTS else self.landmarker_shifts

    def read(self, values: Float[Array, "*t n c"]) -> Float[Array, "*t m c"]:
        """Per-vertex values at the points, of places without the shifts."""
        picked = values[..., self.corners, :]
        return np.einsum("...mkc,mk->...mc", picked, self.weights.astype(values.dtype))


def register(
    neutral: Float[Array, "n 3"],
    skin: Int[Array, "k 3"],
    opened: Float[Array, " n"],
    marks: tuple[int, ...],
    landmarks: Float[Array, "l 3"],
    loose: int,
    eye_centers: Float[Array, "2 3"],
) -> Correspondence:
    """Find the points on the model.

    `skin` are triangles of the face, `opened` is how far the open jaw moves each vertex,
    `marks` are some of FaceMesh's points and `landmarks` their known places on the model, of which
    the first `loose` are known only roughly; `eye_centers` are the eyeballs' middles, the left
    one's first.
    """
    from scipy.interpolate import RBFInterpolator  # late: inference needs no scipy

    points = list(marks)
    face = mean_face() * DEPTH
    placed = similarity(landmarks[loose:], face[points[loose:]]).to_picture(face)
    stiff = np.where(np.arange(len(points)) < loose, *_SMOOTHING)
    warp = RBFInterpolator(placed[points], landmarks - placed[points], smoothing=stiff)  # pyright: ignore[reportArgumentType]
    found = _closest_skin(neutral, skin, opened, placed + warp(placed))
    places = found.read(neutral.astype(np.float64))
    other = np.load(LANDMARKER_FACE).astype(np.float64) * DEPTH
    other = similarity(places, other[:POINTS]).to_picture(other)
    return replace(
        found,
        shifts=_shut_alike(similarity(places, face).to_picture(face) - places),
        landmarker_shifts=_shut_alike(other[:POINTS] - places),
        iris_shifts=(other[list(IRISES)] - eye_centers) * (1, 1, 0),
    )


def _shut_alike(shifts: Float[Array, "m 3"]) -> Float[Array, "m 3"]:
    """Shifts with which lids and inner lips meet where the model's do: alike above and below."""
    half = len(INNER) // 2
    pairs = [*zip(INNER[1:half], INNER[:half:-1], strict=True)]
    pairs += [pair for upper, lower in LIDS for pair in zip(upper, lower, strict=True)]
    upper, lower = np.array(pairs).T
    alike = shifts.copy()
    alike[upper] = alike[lower] = (shifts[upper] + shifts[lower]) / 2
    return alike


def _closest_skin(
    neutral: Float[Array, "n 3"],
    skin: Int[Array, "k 3"],
    opened: Float[Array, " n"],
    places: Float[Array, "m 3"],
) -> Correspondence:
    """The places' nearest ones on the skin that faces the viewer."""
    a, b, c = (neutral[skin[:, i]] for i in range(3))
    normal = np.cross(b - a, c - a)
    facing = normal[:, 2] < _FACING * np.linalg.norm(normal, axis=1)
    low = opened[skin].mean(axis=1) > 0.5 * np.quantile(opened, 0.98)
    corners, weights = np.zeros((len(places), 3), int), np.zeros((len(places), 3))
    for points, allowed in _sides(facing, low):
        found = _closest(neutral, skin[allowed], places[points])
        corners[points], weights[points] = found.corners, found.weights
    return _unshifted(corners, weights)


def _unshifted(corners: Int[Array, "m 3"], weights: Float[Array, "m 3"]) -> Correspondence:
    none = np.zeros(weights.shape)
    return Correspondence(corners, weights, none, none, np.zeros((2, 3)))


def _sides(
    facing: Bool[Array, " k"], low: Bool[Array, " k"]
) -> list[tuple[list[int], Bool[Array, " k"]]]:
    """Points and the triangles on which they may lie: upper lip, lower lip, all others."""
    half = len(INNER) // 2
    upper = [point for ring in (INWARD, INNER) for point in ring[1:half]]
    lower = [point for ring in (INWARD, INNER) for point in ring[half + 1 :]]
    rest = sorted(set(range(POINTS)) - {*upper, *lower})
    return [(upper, facing & ~low), (lower, facing & low), (rest, facing)]


def _closest(
    neutral: Float[Array, "n 3"], skin: Int[Array, "k 3"], places: Float[Array, "m 3"]
) -> Correspondence:
    from scipy.spatial import KDTree  # as above

    near = KDTree(neutral[skin].mean(axis=1)).query(places, k=min(_NEAREST, len(skin)))[1]
    corners = skin[near]  # m, near, 3
    weights = _weights(neutral[corners], places[:, None])
    there = np.einsum("mjk,mjkx->mjx", weights, neutral[corners])
    best = np.linalg.norm(there - places[:, None], axis=2).argmin(axis=1)
    rows = np.arange(len(places))
    return _unshifted(corners[rows, best], weights[rows, best])


def _weights(
    corners: Float[Array, "m j 3 3"], places: Float[Array, "m one 3"]
) -> Float[Array, "m j 3"]:
    """Weights of the corners at the closest place of each triangle: inside, on an edge or at a
    corner, whichever is nearest and within it.
    """
    a, b, c = (corners[:, :, i] for i in range(3))
    flat = np.stack([b - a, c - a], axis=-1)  # m j 3 2
    inside = np.einsum("mjax,mjx->mja", np.linalg.pinv(flat), places - a)
    found = [np.stack([1 - inside.sum(axis=-1), inside[..., 0], inside[..., 1]], axis=-1)]
    for i, j in ((0, 1), (1, 2), (2, 0)):
        edge = corners[:, :, j] - corners[:, :, i]
        along = ((places - corners[:, :, i]) * edge).sum(axis=-1)
        share = np.clip(along / np.maximum(np.square(edge).sum(axis=-1), 1e-12), 0, 1)
        on_edge = np.zeros((*share.shape, 3))
        on_edge[..., i], on_edge[..., j] = 1 - share, share
        found.append(on_edge)
    tried = np.stack(found, axis=2)  # m j 4 3
    there = np.einsum("mjsk,mjkx->mjsx", tried, corners)
    away = np.linalg.norm(there - places[:, :, None], axis=-1)
    away[(tried < 0).any(axis=-1)] = np.inf
    best = away.argmin(axis=2)
    return np.take_along_axis(tried, best[:, :, None, None], axis=2)[:, :, 0]
