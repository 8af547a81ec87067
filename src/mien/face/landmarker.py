"""A second, independent landmark net: MediaPipe's Face Landmarker.

It was trained separately from FaceMesh at a higher resolution, so that lips driven by FaceMesh are
not scored by FaceMesh alone; it also sees irises, and lids better. It ships (assets/NOTICE.md) and
is in `face_landmarker.task` (Google, Apache-2.0).
Axes: h w space. Positions are pixels, x before y.
"""

import zipfile
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from mien.errors import UserError
from mien.face.geometry import Array, Picture, sample
from mien.face.mesh import Landmarks, around_points
from mien.face.tflite import TfliteNet

SIZE = 256
FACE = 468  # points that both nets have
_SHIPPED = "face_landmark_irises"
_NET = "face_landmarks_detector.tflite"


class FaceLandmarker:
    """The net of a .task file, or the one that ships, loaded once.

    Raises:
        UserError: it is not such a file, or does not contain the net.
    """

    def __init__(self, path: Path | None = None) -> None:
        if path is None:
            self._net = TfliteNet(_SHIPPED)
            return
        try:
            with zipfile.ZipFile(path) as task:
                self._net = TfliteNet(task.read(_NET))
        except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
            raise UserError(
                f"{path} is not a face_landmarker.task ({error}): give MediaPipe's file"
            ) from error

    def __call__(self, picture: Picture, points: Landmarks) -> Landmarks:
        """The 468 landmarks shared with FaceMesh, searched around those that FaceMesh found."""
        return self.with_irises(picture, points)[:FACE]

    def with_irises(
        self, picture: Picture, points: Float32[Array, "n 3"]
    ) -> Float32[Array, "478 3"]:
        """Those 468 and, from 468 on, the right and the left iris: the middle and four points of
        its edge. Depth is in pixels, nearer is negative.
        """
        return self.landmarks(picture, points)[0]

    def landmarks(
        self, picture: Picture, points: Float32[Array, "n 3"]
    ) -> tuple[Float32[Array, "478 3"], float]:
        """The points `with_irises` gives, and the probability of a face."""
        square = around_points(points[:FACE])
        raw, presence = self._net(sample(picture, square, SIZE) / 255)[:2]
        seen = raw.reshape(478, 3) / SIZE
        placed = np.concatenate((square.to_picture(seen[:, :2]), seen[:, 2:] * square.side), 1)
        confidence = 1 / (1 + np.exp(-float(np.clip(presence.reshape(-1)[0], -80, 80))))
        return placed.astype(np.float32), float(confidence)
