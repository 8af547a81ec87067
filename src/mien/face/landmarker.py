"""A second, independent landmark net: MediaPipe's Face Landmarker.

It was trained separately from FaceMesh at a higher resolution, so that lips driven by FaceMesh are
not scored by FaceMesh alone. It is in `face_landmarker.task` (Google, Apache-2.0), not shipped.
Axes: h w space. Positions are pixels, x before y.
"""

import zipfile
from pathlib import Path

import numpy as np

from mien.errors import UserError
from mien.face.geometry import Picture, sample
from mien.face.mesh import Landmarks, around_points
from mien.face.tflite import TfliteNet

SIZE = 256
_NET = "face_landmarks_detector.tflite"


class FaceLandmarker:
    """The net of a .task file, loaded once.

    Raises:
        UserError: it is not such a file, or does not contain the net.
    """

    def __init__(self, path: Path) -> None:
        try:
            with zipfile.ZipFile(path) as task:
                self._net = TfliteNet(task.read(_NET))
        except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
            raise UserError(
                f"{path} is not a face_landmarker.task ({error}): give MediaPipe's file"
            ) from error

    def __call__(self, picture: Picture, points: Landmarks) -> Landmarks:
        """The 468 landmarks shared with FaceMesh, searched around those that FaceMesh found."""
        square = around_points(points)
        raw = self._net(sample(picture, square, SIZE) / 255)[0]
        seen = raw.reshape(478, 3)[:468] / SIZE
        placed = np.concatenate((square.to_picture(seen[:, :2]), seen[:, 2:] * square.side), 1)
        return placed.astype(np.float32)
