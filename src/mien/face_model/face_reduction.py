"""ICT-FaceKit's face model as mien's FaceModel, whole or reduced to what a camera can see.

1. y and z are turned, so that the model's axes are those of a camera that it faces.
2. Pupils' sizes are left out, lashes (opaque strips in the light model) and irises (hidden under
   the sclera, on whose front they are drawn) too; all other expressions get ARKit's names.
3. Reduced: skin, head and neck stay whole; of teeth, gums, tongue, mouth and eye sockets and
   eyeballs only triangles stay that are in sight in one of many views and expressions. Vertices
   that stay keep their places.
Of the 25,959 vertices of the light model 22,991 (45,644 triangles) are left without lashes, irises
and pupils, and 17,421 (33,320 triangles) reduced. Storing the axes (`FaceModel.save`) moves a
vertex by at most 0.031 cm (20 random people and expressions). Drawn at 256 px without back faces,
9e-6 of the pixels show another region than those of the model that is not reduced (72 frames of 6
people who turn their heads by up to 45 degrees; 1.4e-4 in the worst). tools/make_face_model.py
prints these figures.
Axes: n vertices, k triangles, e expression axes.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import product

import numpy as np
from jaxtyping import Bool, Float, Float32, Int
from scipy.spatial.transform import Rotation

from mien.face.geometry import Array
from mien.face_model.correspondence import JAW, LANDMARKS_68, Correspondence, register
from mien.face_model.parametric import EYES, FaceModel
from mien.ops.rasterize import visible_triangles

_TURN = np.array([1.0, -1.0, -1.0], np.float32)
_REGIONS = {
    **{name: name for name in ("face", "head_neck", "mouth_socket", "gums_tongue", "teeth")},
    **{"eye_socket_l": "eye_sockets", "eye_socket_r": "eye_sockets"},
    **{"sclera_l": EYES[0], "sclera_r": EYES[1]},
}
_WHOLE = ("face", "head_neck")
_UNUSED = "PupilDilate"
_SIDE = 1400  # pixels of a view
_YAWS, _PITCHES = np.radians([-70, -35, 0, 35, 70]), np.radians([-30, 0, 30])
# Expressions that show what lies behind lips and lids; both sides of an axis move alike.
_EXPRESSIONS = (
    {},
    {"eyeWide": 1.0, "mouthUpperUp": 1.0, "mouthLowerDown": 1.0},
    {"jawOpen": 0.25, "mouthSmile": 1.0},
    {"jawOpen": 0.6, "mouthFunnel": 0.7},
    {"jawOpen": 1.0, "mouthUpperUp": 1.0, "mouthLowerDown": 1.0, "eyeWide": 1.0},
)


def full_model(kept: Mapping[str, Array]) -> FaceModel:
    """All of ICT-FaceKit's light model but lashes, irises and pupils; `kept` being the arrays of
    ict_face.npz.
    """
    names = tuple(dict.fromkeys(_REGIONS.values()))
    region = np.full(len(kept["neutral"]), 255, np.uint8)
    for name, (first, last) in zip(kept["region_names"], kept["region_ranges"], strict=True):
        if str(name) in _REGIONS:
            region[first:last] = names.index(_REGIONS[str(name)])
    neutral = kept["neutral"].astype(np.float32) * _TURN
    chosen = [n for n, name in enumerate(kept["expression_names"]) if _UNUSED not in str(name)]
    centers = [neutral[region == names.index(eye)].mean(axis=0) for eye in EYES]
    model = FaceModel(
        neutral=neutral,
        triangles=kept["faces"].astype(np.int32),
        region=region,
        region_names=names,
        identity_axes=kept["identity_deltas"].astype(np.float32) * _TURN,
        expression_names=tuple(_arkit_name(str(kept["expression_names"][n])) for n in chosen),
        expression_axes=kept["expression_deltas"][chosen].astype(np.float32) * _TURN,
        expression_range=np.tile(np.array([0, 1], np.float32), (len(chosen), 1)),
        eye_centers=np.stack(centers).astype(np.float32),
        points=None,
    )
    model = replace(model, points=_registered(model, neutral[kept["landmarks68"]]))
    return _with_triangles(model, np.all(region[model.triangles] < len(names), axis=1))


def reduced_model(model: FaceModel) -> FaceModel:
    """The model without what no camera sees."""
    whole = np.isin(model.region, [model.region_names.index(name) for name in _WHOLE])
    visible = visible_triangles(_views(model), model.triangles, _SIDE)
    visible = _with_neighbours(model.triangles, visible)
    return _with_triangles(model, np.logical_or(np.all(whole[model.triangles], axis=1), visible))


def _registered(model: FaceModel, landmarks: Float32[Array, "68 3"]) -> Correspondence:
    skin = np.isin(model.triangles, model.vertices_of("face")).all(axis=1)
    jaw = model.expression_axes[model.expression_names.index("jawOpen")]
    opened = np.linalg.norm(jaw, axis=1)
    return register(
        model.neutral,
        model.triangles[skin],
        opened,
        LANDMARKS_68,
        landmarks,
        JAW,
        model.eye_centers,
    )


def _arkit_name(name: str) -> str:
    return name.replace("_L", "Left").replace("_R", "Right")


def _with_triangles(model: FaceModel, stay: Bool[Array, " k"]) -> FaceModel:
    used, numbers = np.unique(model.triangles[stay], return_inverse=True)
    points = model.points
    if points is not None:
        points = replace(points, corners=np.searchsorted(used, points.corners))
    return replace(
        model,
        neutral=model.neutral[used],
        triangles=numbers.reshape(-1, 3).astype(np.int32),
        region=model.region[used],
        identity_axes=model.identity_axes[:, used],
        expression_axes=model.expression_axes[:, used],
        points=points,
    )


def _views(model: FaceModel) -> Iterator[Float[Array, "n 3"]]:
    scale = 0.95 * _SIDE / np.linalg.norm(np.ptp(model.neutral, axis=0))
    for values in _EXPRESSIONS:
        face = model.neutral + model.offsets(_expression(model, values), np.zeros((1, 2)))[0]
        face = face - model.neutral.mean(axis=0)
        for yaw, pitch in product(_YAWS, _PITCHES):
            turn = Rotation.from_euler("XY", [pitch, yaw]).as_matrix()
            yield face @ turn.T * scale + (_SIDE / 2, _SIDE / 2, 0)


def _with_neighbours(triangles: Int[Array, "k 3"], visible: Bool[Array, " k"]) -> Bool[Array, " k"]:
    """Triangles that share a vertex with a visible one count as visible: views lie between ours."""
    return np.any(np.isin(triangles, triangles[visible]), axis=1)


def _expression(model: FaceModel, values: Mapping[str, float]) -> Float32[Array, "1 e"]:
    found = np.zeros((1, len(model.expression_names)), np.float32)
    for name, value in values.items():
        found[:, model.axes_of(name)] = value
    return found


def largest_error(
    model: FaceModel, kept: FaceModel, identity: Float[Array, " i"], expression: Float[Array, "1 e"]
) -> float:
    """The largest distance (cm) between the vertices of two equally numbered models."""
    eyes = np.zeros((1, 2))
    ours, theirs = (m.shape(identity) + m.offsets(expression, eyes)[0] for m in (model, kept))
    return float(np.linalg.norm(ours - theirs, axis=1).max())
