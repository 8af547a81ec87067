"""Find a face and its 468 points in a picture: BlazeFace and FaceMesh (MediaPipe), on the CPU with numpy.

This is the one door to ai_edge_litert. It serves everything that has to know where a face is: the crop
of the portrait, the mouth box of a training clip, the opening of the lips. No net of mien sees it.
Sources: Bazarevsky et al. 2019 (BlazeFace, arXiv 1907.05047), Kartynnik et al. 2019 (FaceMesh, arXiv
1907.06724); models in assets/, see the NOTICE.md there. Same picture, same numbers: one thread.

Axes: h w space of the picture. Positions are pixels of the picture, x before y; boxes are x0 y0 x1 y1.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8

from mien.errors import UserError

Array = np.ndarray
Box = tuple[float, float, float, float]
Picture = UInt8[Array, "h w 3"]
Landmarks = Float[Array, "468 3"]

ASSETS = Path(__file__).parent / "assets"

DETECTOR_SIZE, MESH_SIZE = 128, 192
DETECTOR_STRIDES = ((8, 2), (16, 6))  # pixels between anchors, anchors at each place
SURE, MAYBE = 0.5, 0.25  # detector scores: taken as it is; taken when the mesh agrees
SAME_FACE = 0.3  # boxes that overlap more than this (intersection over union) are one face
FACE_PRESENT = 0.5  # the mesh's own probability that it looks at a face

# How the square of a portrait lies around the 468 points, as in the training clips (medians of 60
# clips of 11 people): side of the square over height of the face, and where the face's centre is.
PORTRAIT_SIDE = 1.86
PORTRAIT_CENTRE = 0.55

UPPER_LIP, LOWER_LIP = 13, 14  # inner edges
LIPS = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181, 91, 146)
RIGHT_EYE_CORNERS, LEFT_EYE_CORNERS = (
    (33, 133),
    (362, 263),
)  # the person's right is left in the picture


@dataclass(frozen=True)
class Face:
    """A face in pixels; `points` are both eyes, nose, mouth and both ears, None for a box given by hand."""

    box: Box
    score: float = 1.0
    points: Float[Array, "6 2"] | None = None

    @property
    def area(self) -> float:
        """Square pixels of the box."""
        x0, y0, x1, y1 = self.box
        return (x1 - x0) * (y1 - y0)


@dataclass(frozen=True)
class Square:
    """A square of the picture, turned by `angle` radians (clockwise on screen) about its centre."""

    x: float
    y: float
    side: float
    angle: float = 0.0

    def to_picture(self, points: Float[Array, "n 2"]) -> Float[Array, "n 2"]:
        """Places in the square ([0, 1], x before y) to pixels of the picture."""
        across, down = ((points - 0.5) * self.side).T
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        return np.stack((self.x + across * cos - down * sin, self.y + across * sin + down * cos), 1)


@dataclass(frozen=True)
class PortraitPlace:
    """Where the portrait is: the square to crop (may leave the picture), and how many faces were seen."""

    box: Box
    faces: int


class FaceMesh:
    """The two nets, loaded once."""

    def __init__(self) -> None:
        self._detector = _Net(ASSETS / "face_detection_short_range.tflite")
        self._mesh = _Net(ASSETS / "face_landmark.tflite")
        self._anchors = _anchors()

    def faces(self, picture: Picture) -> list[Face]:
        """All faces, largest first; none is an empty list.

        Where the whole picture shows none for sure, closer and wider looks follow: small faces, faces
        that fill the picture, faint ones. What those find counts when the mesh agrees.
        """
        for looks, least in _searches(picture.shape[1], picture.shape[0]):
            found = [face for look in looks for face in self._detect(picture, look, least)]
            kept = merge_faces(found)
            if least < SURE or len(looks) > 1:
                kept = [face for face in kept if self.landmarks(picture, face)[1] > FACE_PRESENT]
            if kept:
                return sorted(kept, key=lambda face: face.area, reverse=True)
        return []

    def landmarks(self, picture: Picture, face: Face) -> tuple[Landmarks, float]:
        """The 468 points (x y in pixels, z in pixels towards the viewer negative), and the probability of a face.

        The net looks twice, the second time where the first look saw the face: less trembling.
        """
        points, present = self._look(picture, _around_face(face))
        if present > FACE_PRESENT:
            points, present = self._look(picture, _around_points(points))
        return points, present

    def _look(self, picture: Picture, square: Square) -> tuple[Landmarks, float]:
        raw, presence = self._mesh(sample(picture, square, MESH_SIZE) / 255)
        points = raw.reshape(468, 3) / MESH_SIZE
        placed = np.concatenate(
            (square.to_picture(points[:, :2]), points[:, 2:] * square.side), axis=1
        )
        return placed.astype(np.float32), float(_sigmoid(presence.reshape(-1))[0])

    def _detect(self, picture: Picture, square: Square, least: float) -> list[Face]:
        raw, scores = self._detector(sample(picture, square, DETECTOR_SIZE) / 127.5 - 1)
        scores = _sigmoid(scores.reshape(-1))
        chosen = scores >= least
        values = raw[0, chosen].reshape(-1, 8, 2) / DETECTOR_SIZE  # centre, size, six points
        anchors = self._anchors[chosen]
        faces = []
        for value, anchor, score in zip(values, anchors, scores[chosen], strict=True):
            corners = value[0] + anchor + np.outer((-0.5, 0.5), value[1])
            placed = square.to_picture(np.concatenate((corners, value[2:] + anchor)))
            x0, y0, x1, y1 = map(float, placed[:2].reshape(-1))
            if x1 > x0 and y1 > y0:
                faces.append(Face((x0, y0, x1, y1), float(score), placed[2:]))
        return faces


class _Net:
    """A tflite file that takes one square picture."""

    def __init__(self, path: Path) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self._interpreter = Interpreter(model_path=str(path), num_threads=1)
        self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._outputs = [d["index"] for d in self._interpreter.get_output_details()]

    def __call__(self, picture: Float[Array, "h w 3"]) -> list[Array]:
        self._interpreter.set_tensor(self._input, picture[None].astype(np.float32))
        self._interpreter.invoke()
        return [self._interpreter.get_tensor(index) for index in self._outputs]


def sample(picture: Picture, square: Square, size: int) -> Float[Array, "h w 3"]:
    """The square at size x size in [0, 255]; black outside the picture, as the nets were trained.

    Bilinear, after averaging whole blocks of pixels where the square is more than twice as fine.
    """
    block = max(1, int(square.side / size / 1.5))
    x0, y0, coarse = _block_mean(picture, square, block)
    centres = (np.arange(size) + 0.5) / size
    grid = np.stack(np.meshgrid(centres, centres), axis=-1).reshape(-1, 2)
    x, y = ((square.to_picture(grid) - (x0, y0)) / block - 0.5).T
    height, width = coarse.shape[:2]
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    total = np.zeros((size * size, 3))
    for down in (0, 1):
        for across in (0, 1):
            column, row = left + across, top + down
            weight = (1 - np.abs(x - column)) * (1 - np.abs(y - row))
            weight = weight * ((column >= 0) & (column < width) & (row >= 0) & (row < height))
            column, row = column.clip(0, width - 1), row.clip(0, height - 1)
            total += weight[:, None] * coarse[row, column]
    return total.reshape(size, size, 3)


def _block_mean(picture: Picture, square: Square, block: int) -> tuple[int, int, Array]:
    """The part of the picture under the square, in means of block x block pixels, and where it begins."""
    if block == 1:
        return 0, 0, picture
    height, width = picture.shape[:2]
    reach = square.side * (abs(np.cos(square.angle)) + abs(np.sin(square.angle))) / 2 + block
    x0, x1 = (int(np.clip(square.x + s * reach, 0, width)) for s in (-1, 1))
    y0, y1 = (int(np.clip(square.y + s * reach, 0, height)) for s in (-1, 1))
    rows, columns = max(1, (y1 - y0) // block), max(1, (x1 - x0) // block)
    part = picture[y0 : y0 + rows * block, x0 : x0 + columns * block]
    if part.shape[0] < rows * block or part.shape[1] < columns * block:  # thinner than a block
        return x0, y0, part[:1, :1].astype(np.float32)
    blocks = part.reshape(rows, block, columns, block, 3)
    return x0, y0, blocks.mean(axis=(1, 3), dtype=np.float32)


def merge_faces(found: list[Face]) -> list[Face]:
    """Faces that overlap become one: their mean, weighted by score, with the best score (BlazeFace 3.3)."""
    merged = []
    rest = sorted(found, key=lambda face: face.score, reverse=True)
    while rest:
        same = [face for face in rest if overlap(rest[0].box, face.box) > SAME_FACE] or rest[:1]
        weights = np.array([face.score for face in same])
        x0, y0, x1, y1 = map(
            float, np.average([face.box for face in same], axis=0, weights=weights)
        )
        points = np.average([face.points for face in same], axis=0, weights=weights)
        merged.append(Face((x0, y0, x1, y1), rest[0].score, points))
        rest = [face for face in rest if not any(face is other for other in same)]
    return merged


def overlap(a: Box, b: Box) -> float:
    """Intersection over union."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    common = max(0.0, width) * max(0.0, height)
    both = Face(a).area + Face(b).area - common
    return common / both if both > 0 else 0.0


def lip_gap(landmarks: Landmarks) -> float:
    """How far the mouth is open: the gap between the inner lips over the distance between the eyes."""
    eyes = landmarks[list(LEFT_EYE_CORNERS)].mean(0) - landmarks[list(RIGHT_EYE_CORNERS)].mean(0)
    gap = landmarks[LOWER_LIP] - landmarks[UPPER_LIP]
    return float(np.linalg.norm(gap) / max(np.linalg.norm(eyes), 1e-6))


def face_box(landmarks: Landmarks) -> Box:
    """The upright box around all points: brow line to chin, cheek to cheek."""
    return _around(landmarks)


def mouth_box(landmarks: Landmarks) -> Box:
    """The upright box around the lips."""
    return _around(landmarks[list(LIPS)])


def portrait_box(face: Box) -> Box:
    """The square around a face (see face_box) that frames it as the training clips are framed."""
    x0, y0, x1, y1 = face
    side = PORTRAIT_SIDE * (y1 - y0)
    left = (x0 + x1) / 2 - side / 2
    top = (y0 + y1) / 2 - PORTRAIT_CENTRE * side
    return left, top, left + side, top + side


def find_portrait(picture: Picture, mesh: FaceMesh, name: str) -> PortraitPlace:
    """The square around the largest face of the picture; `name` is what a message calls the picture.

    Raises:
        UserError: there is no face in it.
    """
    faces = mesh.faces(picture)
    if not faces:
        raise UserError(
            f"no face found in {name}: take a picture that shows one from the front, "
            "or give the face by hand with --box x0,y0,x1,y1 (pixels)"
        )
    landmarks, _ = mesh.landmarks(picture, faces[0])
    return PortraitPlace(portrait_box(face_box(landmarks)), len(faces))


def _around(points: Float[Array, "n 3"]) -> Box:
    (x0, y0), (x1, y1) = points[:, :2].min(axis=0), points[:, :2].max(axis=0)
    return float(x0), float(y0), float(x1), float(y1)


def _around_face(face: Face) -> Square:
    """The detector's box, half as large again, with the eyes level (as FaceMesh was trained)."""
    x0, y0, x1, y1 = face.box
    angle = 0.0
    if face.points is not None:
        angle = _angle(face.points[0], face.points[1])
    return Square((x0 + x1) / 2, (y0 + y1) / 2, 1.5 * max(x1 - x0, y1 - y0), angle)


def _around_points(points: Landmarks) -> Square:
    angle = _angle(points[RIGHT_EYE_CORNERS[0]], points[LEFT_EYE_CORNERS[1]])
    level = Square(0.0, 0.0, 1.0, -angle).to_picture(points[:, :2] + 0.5)
    low, high = level.min(axis=0), level.max(axis=0)
    (centre,) = Square(0.0, 0.0, 1.0, angle).to_picture((low + high)[None] / 2 + 0.5)
    return Square(float(centre[0]), float(centre[1]), 1.5 * float((high - low).max()), angle)


def _angle(right_eye: Array, left_eye: Array) -> float:
    across, down = (left_eye - right_eye)[:2]
    return float(np.arctan2(down, across))


def _anchors() -> Float[Array, "n 2"]:
    """Where the detector's answers belong, in [0, 1]: two grids of places, several answers at each."""
    grids = []
    for stride, count in DETECTOR_STRIDES:
        centres = (np.arange(DETECTOR_SIZE // stride) + 0.5) * stride / DETECTOR_SIZE
        places = np.stack(np.meshgrid(centres, centres), axis=-1).reshape(-1, 2)
        grids.append(np.repeat(places, count, axis=0))
    return np.concatenate(grids)


def _searches(width: int, height: int) -> list[tuple[list[Square], float]]:
    """Where to look in turn, and how sure to be: the whole, wider and half-size, then smaller and fainter."""
    longest = max(width, height)
    whole = Square(width / 2, height / 2, longest)
    wider = Square(width / 2, height / 2, 1.7 * longest)
    halves, thirds, fifths = (_tiles(width, height, longest / part) for part in (2, 3, 5))
    return [
        ([whole], SURE),
        ([wider, *halves], SURE),
        ([whole, wider, *halves, *thirds, *fifths], MAYBE),
    ]


def _tiles(width: int, height: int, side: float) -> list[Square]:
    """Squares that cover the picture, each overlapping its neighbours by half."""

    def centres(length: int) -> Array:
        if length <= side:
            return np.array([length / 2])
        count = int(np.ceil((length - side) / (side / 2))) + 1
        return np.linspace(side / 2, length - side / 2, count)

    return [Square(float(x), float(y), side) for y in centres(height) for x in centres(width)]


def _sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-np.clip(x.astype(np.float64), -80, 80)))
