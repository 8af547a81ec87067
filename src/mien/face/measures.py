"""Measures of a face from its landmarks: mouth opening, boxes, and the crop of a portrait.

Boxes are x0 y0 x1 y1 in pixels.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from mien.errors import UserError
from mien.face.framing import framed
from mien.face.geometry import Box, Picture, box_around, turn_of
from mien.face.mesh import Face, FaceMesh, Landmarks
from mien.types import Framing

UPPER_LIP, LOWER_LIP = 13, 14  # inner edges
LIPS = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181, 91, 146)
MOUTH_CORNERS = 61, 291
RIGHT_EYE, LEFT_EYE = (33, 133), (362, 263)  # corners; the person's right is on the picture's left


@dataclass(frozen=True)
class PortraitPlace:
    """The square to crop, which may exceed the picture, and how many faces the picture shows."""

    box: Box
    faces: int


def lip_gap(landmarks: Landmarks) -> float:
    """Mouth opening: the gap between the inner lips over the distance of the eyes."""
    return _over_eyes(landmarks, landmarks[LOWER_LIP] - landmarks[UPPER_LIP])


def mouth_width(landmarks: Landmarks) -> float:
    """From corner to corner of the mouth, over the distance of the eyes."""
    left, right = landmarks[list(MOUTH_CORNERS)]
    return _over_eyes(landmarks, right - left)


def _over_eyes(landmarks: Landmarks, way: Float[np.ndarray, "3"]) -> float:
    eyes = landmarks[list(LEFT_EYE)].mean(axis=0) - landmarks[list(RIGHT_EYE)].mean(axis=0)
    return float(np.linalg.norm(way) / max(np.linalg.norm(eyes), 1e-6))


def mouth_box(landmarks: Landmarks) -> Box:
    """The upright box around the lips."""
    return box_around(landmarks[list(LIPS)])


def face_box(landmarks: Landmarks) -> Box:
    """The upright box around all points: upper forehead to chin, cheek to cheek."""
    return box_around(landmarks)


def quarter_turns(picture: Picture, mesh: FaceMesh) -> int:
    """The number of counterclockwise quarter turns that bring the largest face upright, within 45
    degrees; 0 if no face is found.
    """
    for turns in (0, 1, 3, 2):
        turned = np.ascontiguousarray(np.rot90(picture, turns))
        for face in mesh.faces(turned)[:1]:
            if abs(_lean(turned, face, mesh)) <= np.pi / 4:
                return turns
    # The search for small and faint faces takes a hundred detections: only in the original picture.
    for face in mesh.all_faces(picture)[:1]:
        return round(_lean(picture, face, mesh) / (np.pi / 2)) % 4
    return 0


def _lean(picture: Picture, face: Face, mesh: FaceMesh) -> float:
    """The clockwise roll of a face, radians."""
    points, _ = mesh.landmarks(picture, face)
    return turn_of(points[RIGHT_EYE[0]], points[LEFT_EYE[1]])


def find_portrait(
    picture: Picture, mesh: FaceMesh, name: str, framing: Framing = "face"
) -> PortraitPlace:
    """The square around the largest face; `name` names the picture in messages.

    Raises:
        UserError: there is no face.
    """
    plain = mesh.faces(picture)  # found as in training clips, so framed as they are
    faces = mesh.small_faces(picture, plain) if plain else mesh.all_faces(picture)
    if not faces:
        raise UserError(
            f"no face found in {name}: take a picture that shows one from the front, "
            "or give its box with --box x0,y0,x1,y1 (pixels)"
        )
    landmarks, _ = mesh.landmarks(picture, (plain or faces)[0])
    height, width = picture.shape[:2]
    square = framed(face_box(landmarks), framing, width, height)
    return PortraitPlace(square, max(len(faces), len(plain)))
