"""ICT-FaceKit's face model, reduced to what can be seen between the lips.

1. The neutral mean face is laid over FaceMesh's mean face by a similarity fit on landmarks.
2. Gums, tongue, teeth and mouth socket are kept, the socket only behind the front teeth (before
   them it is the lips' lining, which FaceMesh's own lips stand for).
3. Which vertices follow the jaw is read from the expression `jawOpen`: a turn about a hinge is
   fitted to the lower teeth, and each vertex makes the share of it that fits its own move best.
4. Of the triangles those stay that are in sight in one of many views (turned aside, up and down,
   jaw shut to wide open): roots, backs of teeth and what lies behind them go.
Axes: n vertices, k triangles. ICT-FaceKit's own units are centimetres, y up, z to the viewer.
"""

from collections.abc import Iterator, Mapping

import numpy as np
from jaxtyping import Float, Int

from mien.face.geometry import Array
from mien.face_model.mouth_model import CAVITY, FLESH, TOOTH, MouthModel, turned
from mien.mesh.alignment import similarity
from mien.mesh.topology import mean_face
from mien.ops.rasterize import visible_triangles

# Landmarks of the 68 and the points of FaceMesh that stand for the same places.
_SAME_PLACES = {
    **{36: 33, 39: 133, 42: 362, 45: 263, 27: 168, 33: 2, 8: 152},
    **{48: 61, 54: 291, 51: 0, 57: 17, 60: 78, 64: 308, 62: 13, 66: 14},
}
_SEAM, _CORNERS = (61, 62, 63, 65, 66, 67), (48, 54)  # of the 68
_LINING = 8.5  # centimetres: the socket before this is left out
_SIDE = 900  # pixels of a view
_TURNS = np.radians([-45, -25, 0, 25, 45])
_NODS = np.radians([-25, 0, 25])
_OPENINGS = np.radians([0, 4, 9, 16])

Vertices = Float[Array, "n 3"]
Triangles = Int[Array, "k 3"]


def reduce_model(kept: Mapping[str, Array]) -> MouthModel:
    """The mouth of ICT-FaceKit's model, `kept` being the arrays of ict_face.npz."""
    neutral = kept["neutral"].astype(np.float64)
    marks = kept["landmarks68"]
    places = neutral[marks[list(_SAME_PLACES)]]
    pose = similarity(mean_face()[list(_SAME_PLACES.values())], places)
    vertices = pose.to_picture(neutral)
    opened = pose.to_picture(neutral + _expression(kept, "jawOpen"))
    part = _parts(kept, len(vertices))
    hinge, full, edge = _hinge(vertices, opened, part)
    jaw = _shares(vertices, opened, part, hinge, full)

    triangles = kept["faces"].astype(np.int64)
    triangles = triangles[(part[triangles] >= 0).all(axis=1)]
    before = (part[triangles] == CAVITY) & (neutral[triangles, 2] > _LINING)
    triangles = triangles[~before.any(axis=1)]
    normals = _normals(vertices, triangles)
    views = _views(vertices, triangles, jaw, hinge)
    triangles = triangles[visible_triangles(views, triangles, _SIDE)]
    used, numbers = np.unique(triangles, return_inverse=True)
    corners = vertices[marks[list(_CORNERS)]]
    return MouthModel(
        vertices=vertices[used],
        normals=normals[used],
        triangles=numbers.reshape(-1, 3),
        part=part[used].astype(np.uint8),
        jaw=jaw[used],
        hinge=hinge,
        edge=edge,
        lips=vertices[marks[list(_SEAM)]].mean(axis=0),
        width=float(np.linalg.norm((corners[1] - corners[0])[:2])),
    )


def _expression(kept: Mapping[str, Array], name: str) -> Vertices:
    number = kept["expression_names"].tolist().index(name)
    return kept["expression_deltas"][number].astype(np.float64)


def _parts(kept: Mapping[str, Array], n: int) -> Int[Array, " n"]:
    part = np.full(n, -1)
    known = {"gums_tongue": FLESH, "teeth": TOOTH, "mouth_socket": CAVITY}
    for name, (first, last) in zip(kept["region_names"], kept["region_ranges"], strict=True):
        part[first:last] = known.get(str(name), -1)
    return part


def _hinge(
    vertices: Vertices, opened: Vertices, part: Int[Array, " n"]
) -> tuple[Float[Array, " 2"], float, Float[Array, " 2"]]:
    """Where the jaw turns (y z), how far `jawOpen` turns it, and the lower incisors' edge."""
    moved = np.linalg.norm(opened - vertices, axis=1)
    lower = (part == TOOTH) & (moved > 0.25 * moved[part == TOOTH].max())
    flat = np.array([0.0, 1.0, 1.0])  # a turn about x alone
    pose = similarity(opened[lower] * flat, vertices[lower] * flat)
    turn = pose.rotation[1:, 1:]
    hinge = np.linalg.solve(np.eye(2) - turn, pose.shift[1:])
    front = vertices[lower & (np.abs(vertices[:, 0]) < 0.1)]
    return hinge, float(np.arctan2(turn[1, 0], turn[0, 0])), front[front[:, 1].argmin(), 1:]


def _shares(
    vertices: Vertices,
    opened: Vertices,
    part: Int[Array, " n"],
    hinge: Float[Array, " 2"],
    full: float,
) -> Float[Array, " n"]:
    """The share of the jaw's turn that fits each vertex's move best; teeth have all or nothing."""
    rigid = turned(vertices, np.ones(len(vertices)), hinge, full) - vertices
    share = ((opened - vertices) * rigid).sum(axis=1) / np.square(rigid).sum(axis=1)
    return np.where(part == TOOTH, share > 0.5, share.clip(0, 1)).astype(np.float64)


def _normals(vertices: Vertices, triangles: Triangles) -> Vertices:
    """Unit normals of the vertices, weighted by area, all turned out of the surface."""
    a, b, c = (vertices[triangles[:, i]] for i in range(3))
    flat, normals = np.cross(b - a, c - a), np.zeros_like(vertices)
    for i in range(3):
        np.add.at(normals, triangles[:, i], flat)
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)


def _views(
    vertices: Vertices, triangles: Triangles, jaw: Float[Array, " n"], hinge: Float[Array, " 2"]
) -> Iterator[Vertices]:
    low, high = (f(vertices[np.unique(triangles)], axis=0) for f in (np.min, np.max))
    for opening in _OPENINGS:
        open_mouth = turned(vertices, jaw, hinge, opening) - (low + high) / 2
        for turn in _TURNS:
            for nod in _NODS:
                view = open_mouth @ _view(turn, nod).T * (0.55 * _SIDE / np.ptp([low, high]))
                view[:, :2] += _SIDE / 2
                yield view


def _view(turn: float, nod: float) -> Float[Array, "3 3"]:
    cos, sin = np.cos(turn), np.sin(turn)
    aside = np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]])
    cos, sin = np.cos(nod), np.sin(nod)
    return np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]]) @ aside
