"""Triangulation of FaceMesh's 468 points and their surroundings.

Around the face lie two rings, which follow the head less and less, and the picture's border, which
stays. Lips are four rings of twenty points with strips between them, since Delaunay's triangles
would join the lips with each other. Point numbers are those of MediaPipe's FaceMesh.
Axes: n points or vertices, k triangles.
"""

import functools
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float, Int

from mien.face import portrait_box
from mien.face.geometry import Array, box_around

POINTS = 468
MEAN_FACE = Path(__file__).parents[1] / "assets" / "mean_face.npy"

# Lips from outside to inside; each ring begins at the person's right corner and goes along the
# upper lip (0 to 10) and back along the lower one, so that point i faces point 20 - i.
LIP_RINGS = (
    (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181, 91, 146),
    (76, 184, 74, 73, 72, 11, 302, 303, 304, 408, 306, 307, 320, 404, 315, 16, 85, 180, 90, 77),
    (62, 183, 42, 41, 38, 12, 268, 271, 272, 407, 292, 325, 319, 403, 316, 15, 86, 179, 89, 96),
    (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95),
)
OUTER, MIDDLE, INWARD, INNER = LIP_RINGS
LIPS = sum(LIP_RINGS, ())
CORNERS = (61, 291)
OVAL = (
    *(10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377),
    *(152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109),
)
# Upper lids, lower lids: point i of one faces point i of the other.
LIDS = (
    ((246, 161, 160, 159, 158, 157, 173), (7, 163, 144, 145, 153, 154, 155)),
    ((466, 388, 387, 386, 385, 384, 398), (249, 390, 373, 374, 380, 381, 382)),
)
EYE_CORNERS = (33, 133, 362, 263)
# Forehead, bridge of the nose, corners of the eyes, temples: what expressions move least.
STABLE = (
    *(10, 67, 297, 151, 9, 8, 168, 6, 197, 195, 5, 33, 133, 362, 263, 127, 356, 234, 454, 93, 323),
    *(21, 251, 54, 284, 103, 332, 109, 338, 4, 129, 358),
)
RINGS = (1.28, 1.7)  # times the oval, from its middle
RING = len(OVAL)
BORDER = 8  # points on each side of the picture
VERTICES = POINTS + len(RINGS) * RING + 4 * BORDER

Points = Float[Array, "468 3"]
Vertices = Float[Array, "n 3"]


@dataclass(frozen=True)
class Topology:
    """Triangles of skin and surroundings, then from `inside` on those between the inner lips."""

    triangles: Int[Array, "k 3"]
    inside: int

    @property
    def skin(self) -> Int[Array, " k"]:
        """1 for triangles of the face itself, 0 for the surroundings and the mouth's inside."""
        face = np.all(self.triangles < POINTS, axis=1).astype(np.int64)
        face[self.inside :] = 0
        return face


@functools.cache
def mean_face() -> Points:
    """The mean of many faces at rest, lips closed (tools/make_mean_face.py).

    Origin: middle of the stable points; unit: distance of the eyes; x to the picture's right, y
    down, z away from the viewer.
    """
    return np.load(MEAN_FACE).astype(np.float64)


def with_surroundings(points: Points, border: Float[Array, "edge 2"]) -> Vertices:
    """The 468 points, two rings around their oval, and border points far behind them."""
    oval = points[list(OVAL)]
    middle = (oval.min(axis=0) + oval.max(axis=0)) / 2
    rings = []
    for size in RINGS:
        ring = middle + size * (oval - middle)
        ring[:, 2] = oval[:, 2]
        rings.append(ring)
    behind = np.full((len(border), 1), points[:, 2].max() + 10 * np.ptp(points[:, 0]))
    return np.concatenate([points, *rings, np.concatenate([border, behind], axis=1)])


def border_of(left: float, top: float, side: float) -> Float[Array, "n 2"]:
    """Points around a square picture, a little outside of it."""
    along = np.linspace(-0.06, 1.06, BORDER, endpoint=False)
    low, high = np.full(BORDER, -0.06), np.full(BORDER, 1.06)
    corners = (along, low), (high, along), (1 - along, high), (low, 1 - along)
    return np.concatenate([np.stack(c, axis=1) for c in corners]) * side + (left, top)


@functools.cache
def topology() -> Topology:
    """The triangles, found once on the mean face: Delaunay's outside the lips, strips between."""
    canonical = _opened(mean_face())
    left, top, right, _ = portrait_box(box_around(canonical))
    vertices = with_surroundings(canonical, border_of(left, top, right - left))
    outline = vertices[list(OUTER), :2].astype(np.float32)
    within = set(MIDDLE + INWARD + INNER)
    outside = [
        corners
        for corners in _delaunay(vertices[:, :2])
        if not within & set(corners)
        and cv2.pointPolygonTest(outline, vertices[corners, :2].mean(axis=0).tolist(), False) <= 0
    ]
    lips = [
        corners for a, b in zip(LIP_RINGS, LIP_RINGS[1:], strict=False) for corners in _band(a, b)
    ]
    inside = _strip(INNER)
    return Topology(np.array(outside + lips + inside), len(outside) + len(lips))


def _delaunay(points: Float[Array, "n 2"]) -> list[list[int]]:
    """Delaunay's triangles of points, sorted, each counter-clockwise (y up) from its first point.

    By OpenCV, which is loaded anyway, while importing scipy.spatial takes a third of a second. It
    may lack slim triangles along the hull; within a frame of points as `border_of` there are none.
    """
    low, high = points.min(axis=0), points.max(axis=0)
    side = 2**12  # OpenCV's coordinates are in single precision
    placed = ((points - low) / (high - low).max() * side).astype(np.float32).tolist()
    plane = cv2.Subdiv2D((-1, -1, side + 2, side + 2))
    plane.insert(placed)
    number = {tuple(point): n for n, point in enumerate(placed)}
    found = []
    for triangle in np.reshape(plane.getTriangleList(), (-1, 3, 2)).tolist():
        places = [tuple(corner) for corner in triangle]
        if not number.keys() >= set(places):
            continue  # of the frame that OpenCV puts around all points
        a, b, c = sorted(number[place] for place in places)
        across, along = points[b] - points[a], points[c] - points[a]
        ahead = across[0] * along[1] > across[1] * along[0]
        found.append([a, b, c] if ahead else [a, c, b])
    return sorted(found)


def _opened(face: Points) -> Points:
    """The face with a wide open mouth: its lips lie apart, so that triangles do not cross it."""
    below = face[:, 1] > face[[13, 14], 1].mean() + 0.02
    below[list(LIPS)] = False
    below[list(sum((ring[11:] for ring in LIP_RINGS), ()))] = True
    opened = face.copy()
    opened[below, 1] += 0.35 * np.clip(1 - np.abs(face[below, 0]) / 0.9, 0, 1)
    return opened


def _band(outer: tuple[int, ...], inner: tuple[int, ...]) -> list[list[int]]:
    """Triangles between two closed rings of points."""
    n = len(outer)
    pairs = [(i, (i + 1) % n) for i in range(n)]
    first = [[outer[i], outer[j], inner[i]] for i, j in pairs]
    return first + [[outer[j], inner[j], inner[i]] for i, j in pairs]


def _strip(ring: tuple[int, ...]) -> list[list[int]]:
    """Triangles between the upper and the lower half of a ring."""
    half = len(ring) // 2
    upper, lower = ring[: half + 1], [ring[-i % len(ring)] for i in range(half + 1)]
    quads = zip(upper, upper[1:], lower, lower[1:], strict=False)
    corners = [[[a, b, c], [b, d, c]] for a, b, c, d in quads]
    return [t for pair in corners for t in pair if len(set(t)) == 3]
