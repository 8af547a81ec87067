"""The 478 points of one person's face in every frame of a clip.

FaceMesh finds the largest face; from then on MediaPipe's landmarker looks around the points of the
frame before, and FaceMesh again where it loses them.
Axes: t frames, h w space.
"""

from collections.abc import Callable, Iterable

import numpy as np
from jaxtyping import Float, Float32

from mien.face import FaceMesh
from mien.face.blendshapes import BlendshapeNet
from mien.face.geometry import Array, Picture
from mien.face.landmarker import FaceLandmarker

LANDMARKS = 478
MIN_CONFIDENCE = 0.5  # least probability of a face by the landmarker
_EDGE = 0.5  # share of the points that must lie in the picture


class FaceTracker:
    """The nets of both, and `scores`, which gives ARKit's from the points; all are loaded once, and
    one tracker may follow any number of clips in turn.
    """

    def __init__(self, mesh: FaceMesh | None = None) -> None:
        self._mesh = mesh or FaceMesh()
        self._landmarker = FaceLandmarker()
        self.scores = BlendshapeNet()

    def track(
        self, frames: Iterable[Picture], progress: Callable[[int], None] = lambda done: None
    ) -> Float32[Array, "t 478 3"]:
        """x, y and depth of the points in pixels, nan in frames without a face. `progress` is
        called with the number of frames done.
        """
        found: list[Float32[Array, "478 3"]] = []
        last = None
        for frame in frames:
            last = self._seen(frame, last)
            found.append(np.full((LANDMARKS, 3), np.nan, np.float32) if last is None else last)
            progress(len(found))
        return np.stack(found) if found else np.zeros((0, LANDMARKS, 3), np.float32)

    def _seen(
        self, frame: Picture, last: Float[Array, "478 3"] | None
    ) -> Float32[Array, "478 3"] | None:
        if last is not None:
            points, confidence = self._landmarker.landmarks(frame, last)
            if confidence >= MIN_CONFIDENCE and _inside(points, frame):
                return points
        faces = self._mesh.faces(frame)
        if not faces:
            return None
        points, confidence = self._landmarker.landmarks(
            frame, self._mesh.landmarks(frame, faces[0])[0]
        )
        return points if confidence >= MIN_CONFIDENCE else None


def _inside(points: Float[Array, "n 3"], frame: Picture) -> bool:
    height, width = frame.shape[:2]
    within = (points[:, :2] >= 0) & (points[:, :2] < (width, height))
    return float(within.all(axis=1).mean()) >= _EDGE
