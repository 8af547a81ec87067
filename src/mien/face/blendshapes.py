"""MediaPipe's blendshape net: 51 of ARKit's 52 scores (no tongueOut) from the landmarker's points.

It was trained on curves of real faces, so that it knows axes that single points hardly show. It
ships (assets/NOTICE.md; Google, Apache-2.0).
Axes: t frames, k scores.
"""

import numpy as np
from jaxtyping import Float, Float32

from mien.face.geometry import Array
from mien.face.tflite import TfliteNet

# The landmarker's points that the net takes, and the names of its scores after the first, which is
# of a neutral face (face_blendshapes_graph.cc of MediaPipe).
_POINTS = (
    *(0, 1, 4, 5, 6, 7, 8, 10, 13, 14, 17, 21, 33, 37, 39, 40, 46, 52, 53, 54, 55, 58, 61, 63, 65),
    *(66, 67, 70, 78, 80, 81, 82, 84, 87, 88, 91, 93, 95, 103, 105, 107, 109, 127, 132, 133, 136),
    *(144, 145, 146, 148, 149, 150, 152, 153, 154, 155, 157, 158, 159, 160, 161, 162, 163, 168),
    *(172, 173, 176, 178, 181, 185, 191, 195, 197, 234, 246, 249, 251, 263, 267, 269, 270, 276),
    *(282, 283, 284, 285, 288, 291, 293, 295, 296, 297, 300, 308, 310, 311, 312, 314, 317, 318),
    *(321, 323, 324, 332, 334, 336, 338, 356, 361, 362, 365, 373, 374, 375, 377, 378, 379, 380),
    *(381, 382, 384, 385, 386, 387, 388, 389, 390, 397, 398, 400, 402, 405, 409, 415, 454, 466),
    *range(468, 478),
)
SCORES = (
    *("browDownLeft", "browDownRight", "browInnerUp", "browOuterUpLeft", "browOuterUpRight"),
    *("cheekPuff", "cheekSquintLeft", "cheekSquintRight", "eyeBlinkLeft", "eyeBlinkRight"),
    *("eyeLookDownLeft", "eyeLookDownRight", "eyeLookInLeft", "eyeLookInRight", "eyeLookOutLeft"),
    *("eyeLookOutRight", "eyeLookUpLeft", "eyeLookUpRight", "eyeSquintLeft", "eyeSquintRight"),
    *("eyeWideLeft", "eyeWideRight", "jawForward", "jawLeft", "jawOpen", "jawRight", "mouthClose"),
    *("mouthDimpleLeft", "mouthDimpleRight", "mouthFrownLeft", "mouthFrownRight", "mouthFunnel"),
    *("mouthLeft", "mouthLowerDownLeft", "mouthLowerDownRight", "mouthPressLeft"),
    *("mouthPressRight", "mouthPucker", "mouthRight", "mouthRollLower", "mouthRollUpper"),
    *("mouthShrugLower", "mouthShrugUpper", "mouthSmileLeft", "mouthSmileRight"),
    *("mouthStretchLeft", "mouthStretchRight", "mouthUpperUpLeft", "mouthUpperUpRight"),
    *("noseSneerLeft", "noseSneerRight"),
)


class BlendshapeNet:
    """The net, loaded once."""

    def __init__(self) -> None:
        self._net = TfliteNet("face_blendshapes")

    def __call__(self, points: Float[Array, "t 478 3"]) -> Float32[Array, "t k"]:
        """SCORES of every frame's points in pixels, between 0 and 1; nan where the points are."""
        scores = np.full((len(points), len(SCORES)), np.nan, np.float32)
        for row in np.flatnonzero(np.isfinite(points).all(axis=(1, 2))):
            scores[row] = self._net(points[row, _POINTS, :2])[0].reshape(-1)[1:]
        return scores
