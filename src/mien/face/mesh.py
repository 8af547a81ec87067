"""Face detection with BlazeFace, and 468 landmarks with FaceMesh.

Sources: Bazarevsky et al. 2019 (arXiv 1907.05047), Kartynnik et al. 2019 (arXiv 1907.06724); Google
MediaPipe's models, see assets/NOTICE.md. Deterministic: one thread.

Axes: h w space, n anchors. Positions are pixels of the picture, x before y.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from mien.face.geometry import (
    Array,
    Box,
    Picture,
    Square,
    area,
    box_around,
    common,
    overlap,
    sample,
    tiles,
    turn_of,
)
from mien.face.tflite import TfliteNet

Landmarks = Float[Array, "468 3"]

DETECTOR_SIZE, MESH_SIZE = 128, 192
DETECTOR_STRIDES = ((8, 2), (16, 6))  # pixels between anchors, anchors at each place
CERTAIN, SURE, MAYBE = 0.75, 0.5, 0.25  # detector scores; below the first FaceMesh must confirm
SAME_FACE = 0.3  # boxes of one detection with a larger IoU are one face
CLOSER_PARTS = (2, 3)
PARTS = (2, 3, 5)  # tiles for small faces: a half, a third and a fifth of the picture
# FaceMesh's probability of a face. Faces give over 0.999, gravel, rockets and ears up to 0.98.
FACE_PRESENT, FACE_LIKELY = 0.99, 0.5
AROUND = 1.5  # side of FaceMesh's input crop over the size of the face
RIGHT_EYE_OUTER, LEFT_EYE_OUTER = 33, 263  # corners; the person's right is on the picture's left


@dataclass(frozen=True)
class Face:
    """A detected face; `points` are right eye, left eye, nose, mouth, right ear, left ear."""

    box: Box
    score: float
    points: Float[Array, "6 2"]


class FaceMesh:
    """Both nets, loaded once."""

    def __init__(self) -> None:
        self._detector = TfliteNet("face_detection_short_range")
        self._mesh = TfliteNet("face_landmark")
        self._anchors = _anchors()

    def faces(self, picture: Picture) -> list[Face]:
        """The faces found in the whole picture at one or two scales, largest first: for clips."""
        width, height = picture.shape[1], picture.shape[0]
        for look in _whole(width, height):
            found = self._detect(picture, look, SURE)
            if kept := [f for f in found if f.score > CERTAIN or self._confirms(picture, f)]:
                return sorted(kept, key=_size, reverse=True)
        return []

    def small_faces(self, picture: Picture, large: list[Face] | None = None) -> list[Face]:
        """As `faces` (`large`, if they are known), and in tiles of a half and a third of the
        picture: down to a twelfth of its height. Some twenty detections.
        """
        width, height = picture.shape[1], picture.shape[0]
        looks = _closer(width, height, CLOSER_PARTS)
        found = [face for look in looks for face in self._detect(picture, look, SURE)]
        kept = [face for face in found if self._confirms(picture, face)]
        large = self.faces(picture) if large is None else large
        return sorted(drop_doubles([*large, *kept]), key=_size, reverse=True)

    def all_faces(self, picture: Picture) -> list[Face]:
        """All faces, including small ones and, if there are none, faint ones, largest first: for
        portraits where `faces` finds none. A hundred detections; at that scale the detector also
        fires on gravel, so FaceMesh must confirm each face.
        """
        width, height = picture.shape[1], picture.shape[0]
        found = [
            face
            for look in (*_whole(width, height), *_closer(width, height, PARTS))
            for face in self._detect(picture, look, MAYBE)
        ]
        faint = [face for face in found if face.score < SURE]
        for some in ([face for face in found if face.score >= SURE], faint):
            if kept := [face for face in some if self._confirms(picture, face)]:
                return sorted(drop_doubles(kept), key=_size, reverse=True)
        return []

    def _confirms(self, picture: Picture, face: Face) -> bool:
        """True if FaceMesh confirms a face at this box. Overlap is checked because the refinement
        can drift to a neighbouring face.
        """
        points, present = self.landmarks(picture, face)
        return present > FACE_PRESENT and overlap(face.box, box_around(points)) > SAME_FACE

    def landmarks(self, picture: Picture, face: Face) -> tuple[Landmarks, float]:
        """The landmarks (x, y and depth in pixels, nearer is negative), the probability of a face.

        The net runs twice, the second time on a crop around the first landmarks: less jitter.
        """
        points, present = self._run(picture, _around_face(face))
        if present > FACE_LIKELY:
            points, present = self._run(picture, around_points(points))
        return points, present

    def _run(self, picture: Picture, square: Square) -> tuple[Landmarks, float]:
        raw, presence = self._mesh(sample(picture, square, MESH_SIZE) / 255)
        points = raw.reshape(468, 3) / MESH_SIZE
        placed = np.concatenate((square.to_picture(points[:, :2]), points[:, 2:] * square.side), 1)
        return placed.astype(np.float32), float(_sigmoid(presence.reshape(-1))[0])

    def _detect(self, picture: Picture, square: Square, least: float) -> list[Face]:
        raw, scores = self._detector(sample(picture, square, DETECTOR_SIZE) / 127.5 - 1)
        scores = _sigmoid(scores.reshape(-1))
        chosen = scores >= least
        answers = raw[0, chosen].reshape(-1, 8, 2) / DETECTOR_SIZE  # centre, size, six points
        faces = []
        for answer, anchor, score in zip(
            answers, self._anchors[chosen], scores[chosen], strict=True
        ):
            corners = answer[0] + anchor + np.outer((-0.5, 0.5), answer[1])
            placed = square.to_picture(np.concatenate((corners, answer[2:] + anchor)))
            x0, y0, x1, y1 = map(float, placed[:2].reshape(-1))
            if x1 > x0 and y1 > y0:
                faces.append(Face((x0, y0, x1, y1), float(score), placed[2:]))
        return merge_faces(faces)


def merge_faces(found: list[Face]) -> list[Face]:
    """Non-maximum suppression by blending (BlazeFace 3.3): overlapping faces become their mean
    weighted by score, with the best score.
    """
    merged = []
    rest = sorted(found, key=lambda face: face.score, reverse=True)
    while rest:
        best = rest[0]
        same = [face for face in rest if face is best or overlap(best.box, face.box) > SAME_FACE]
        share = np.array([face.score for face in same])
        share = share / share.sum()
        x0, y0, x1, y1 = map(float, share @ np.array([face.box for face in same]))
        points = np.einsum("n,npx->px", share, np.stack([face.points for face in same]))
        merged.append(Face((x0, y0, x1, y1), best.score, points))
        rest = [face for face in rest if not any(face is other for other in same)]
    return merged


def drop_doubles(found: list[Face]) -> list[Face]:
    """Of faces detected in several tiles, whole or cut off, keep the one with the best score."""
    kept: list[Face] = []
    for face in sorted(found, key=lambda face: face.score, reverse=True):
        if all(
            common(face.box, other.box) < 0.4 * min(_size(face), _size(other)) for other in kept
        ):
            kept.append(face)
    return kept


def _around_face(face: Face) -> Square:
    """The crop 1.5 times the detector's box, rotated so that the eyes are level, as FaceMesh was
    trained.
    """
    x0, y0, x1, y1 = face.box
    side = AROUND * max(x1 - x0, y1 - y0)
    return Square((x0 + x1) / 2, (y0 + y1) / 2, side, turn_of(face.points[0], face.points[1]))


def around_points(points: Landmarks) -> Square:
    """The same crop around known landmarks."""
    angle = turn_of(points[RIGHT_EYE_OUTER], points[LEFT_EYE_OUTER])
    unturned = Square(0.0, 0.0, 1.0, -angle).to_picture(points[:, :2] + 0.5)
    x0, y0, x1, y1 = box_around(unturned)
    middle = np.array([[(x0 + x1) / 2, (y0 + y1) / 2]])
    ((x, y),) = Square(0.0, 0.0, 1.0, angle).to_picture(middle + 0.5)
    return Square(float(x), float(y), AROUND * max(x1 - x0, y1 - y0), angle)


def _anchors() -> Float[Array, "n 2"]:
    """The detector's anchor centres in [0, 1]: two grids, several anchors at each place."""
    grids = []
    for stride, count in DETECTOR_STRIDES:
        centres = (np.arange(DETECTOR_SIZE // stride) + 0.5) * stride / DETECTOR_SIZE
        places = np.stack(np.meshgrid(centres, centres), axis=-1).reshape(-1, 2)
        grids.append(np.repeat(places, count, axis=0))
    return np.concatenate(grids)


def _closer(width: int, height: int, parts: tuple[int, ...]) -> list[Square]:
    """Tiles of a half, a third ... of the picture's longer side that cover it."""
    longer = max(width, height)
    return [tile for part in parts for tile in tiles(width, height, longer / part)]


def _whole(width: int, height: int) -> list[Square]:
    """The whole picture, and a wider square for a face that fills it."""
    longest = float(max(width, height))
    return [Square(width / 2, height / 2, side) for side in (longest, 1.7 * longest)]


def _size(face: Face) -> float:
    return area(face.box)


def _sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-np.clip(x.astype(np.float64), -80, 80)))
