"""Where the face is in a frame: the convex hull of its landmarks.

Axes: t video frames, h w space.
"""

import cv2
import numpy as np
from jaxtyping import Bool

from mien.evaluation.points import Points

Masks = Bool[np.ndarray, "t h w"]


def face_masks(points: Points, size: int) -> Masks:
    """The face in each square frame of `size` pixels; empty where its points are not known."""
    masks = np.zeros((len(points), size, size), np.uint8)
    for mask, face in zip(masks, points, strict=True):
        if np.isfinite(face).all():
            cv2.fillConvexPoly(mask, cv2.convexHull(face[:, :2].round().astype(np.int32)), (1,))
    return masks.astype(bool)
