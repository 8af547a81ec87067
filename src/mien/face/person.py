"""Person segmentation of a portrait: the background must not move with the head.

By Google MediaPipe's selfie segmentation (assets/NOTICE.md); the face itself always counts as the
person, even if the net fails on a painting. Axes: h w space, n points.
"""

import functools
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float

from mien.face.geometry import Array, Picture
from mien.face.tflite import TfliteNet

SIDE = 256  # input size of the net in pixels
_SOFTNESS = 1.5  # of these pixels: standard deviation of the blur of the mask
# Mask value from which a pixel's background is hidden; dilation of the hidden area, and radius of
# the inpainting (Telea 2004), both in pixels.
_HIDES, _MARGIN, _REACH = 0.05, 5, 3


@dataclass(frozen=True)
class Scene:
    """A portrait separated into a soft person mask (1 on the person) and the background in [-1, 1],
    inpainted where the person hides it.
    """

    person: Float[np.ndarray, "h w"]
    background: Float[np.ndarray, "3 h w"]


def scene_of(picture: Picture, points: Float[Array, "n 2"]) -> Scene:
    """Separate person and background of a portrait whose face has these landmarks (pixels)."""
    person = person_mask(picture, points)
    hidden = cv2.dilate((person > _HIDES).astype(np.uint8), np.ones((_MARGIN, _MARGIN), np.uint8))
    cv2.setNumThreads(1)
    filled = cv2.inpaint(np.ascontiguousarray(picture), hidden, _REACH, cv2.INPAINT_TELEA)
    return Scene(person, filled.transpose(2, 0, 1).astype(np.float32) / 127.5 - 1)


def person_mask(picture: Picture, points: Float[Array, "n 2"]) -> Float[np.ndarray, "h w"]:
    """1 on the person whose face has these landmarks (pixels), 0 on the background, soft edges."""
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
