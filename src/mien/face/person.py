"""Which pixels of a portrait are the person: what stands behind must not move with a head.

Google MediaPipe's net for selfies parts them (assets/NOTICE.md); the face itself counts as the
person whatever the net makes of a painting. Axes: h w space, n points.
"""

import functools
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float

from mien.face.geometry import Array, Picture
from mien.face.tflite import TfliteNet

SIDE = 256  # pixels that the net looks at
_SOFTNESS = 1.5  # of these pixels, over which the person ends
# From how much of the person on a pixel hides what is behind; how far around nothing is trusted
# either, and from how far the colours are taken, both in pixels (filled in after Telea 2004).
_HIDES, _MARGIN, _REACH = 0.05, 5, 3


@dataclass(frozen=True)
class Scene:
    """A portrait taken apart: where the person is (1, softly falling to 0), and the picture in
    [-1, 1] of what stands behind, filled in where the person hides it.
    """

    person: Float[np.ndarray, "h w"]
    behind: Float[np.ndarray, "3 h w"]


def scene_of(picture: Picture, points: Float[Array, "n 2"]) -> Scene:
    """Take a portrait apart whose face has these points (pixels)."""
    person = person_mask(picture, points)
    hidden = cv2.dilate((person > _HIDES).astype(np.uint8), np.ones((_MARGIN, _MARGIN), np.uint8))
    cv2.setNumThreads(1)
    filled = cv2.inpaint(np.ascontiguousarray(picture), hidden, _REACH, cv2.INPAINT_TELEA)
    return Scene(person, filled.transpose(2, 0, 1).astype(np.float32) / 127.5 - 1)


def person_mask(picture: Picture, points: Float[Array, "n 2"]) -> Float[np.ndarray, "h w"]:
    """1 on the person whose face has these points (pixels), 0 behind, soft at the edge."""
    height, width = picture.shape[:2]
    small = cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    mask = _net()(small.astype(np.float32) / 255)[0][0, ..., 0].copy()
    hull = cv2.convexHull((points * (SIDE / width, SIDE / height)).astype(np.float32))
    cv2.fillConvexPoly(mask, hull.round().astype(np.int32), (1.0,))
    mask = cv2.GaussianBlur(np.clip(mask, 0, 1), (0, 0), _SOFTNESS)
    return cv2.resize(mask, (width, height), interpolation=cv2.INTER_LINEAR)


@functools.cache
def _net() -> TfliteNet:
    return TfliteNet("selfie_segmentation")
