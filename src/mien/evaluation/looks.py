"""Pictures of a face: how sharp it is, how near inside it and around it, and whose it is.

The face is the convex hull of FaceMesh's points. Axes: t video frames, h w space. Frames are uint8
RGB unless a shape says 3 h w, which is RGB in [-1, 1]. A measure that cannot be taken is NaN.
"""

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mien.errors import UserError
from mien.evaluation.lips import NOWHERE, ratio
from mien.evaluation.points import Points
from mien.face import FaceIdentity, Landmarks, Picture
from mien.media import Frames

LOOKS = 6  # frames of a clip whose identity is taken, evenly spread
Masks = Bool[np.ndarray, "t h w"]


def face_masks(points: Points, size: int) -> Masks:
    """Where the face is in each square frame; nowhere where the points are not known."""
    masks = np.zeros((len(points), size, size), np.uint8)
    for mask, face in zip(masks, points, strict=True):
        if np.isfinite(face).all():
            cv2.fillConvexPoly(mask, cv2.convexHull(face[:, :2].round().astype(np.int32)), (1,))
    return masks.astype(bool)


def psnr_within(
    drawn: Float[Tensor, "t 3 h w"], wanted: Float[Tensor, "t 3 h w"], masks: Masks
) -> float:
    """Peak signal-to-noise ratio in dB over the pixels of the masks, frame by frame, then the mean;
    equal pictures score 100.
    """
    error = (drawn.clamp(-1, 1) - wanted).square().mean(dim=1) / 4  # peak to peak is 2
    inside = torch.from_numpy(masks).to(error)
    counts = inside.sum(dim=(1, 2))
    if not counts.any():
        return NOWHERE
    mean = (error * inside).sum(dim=(1, 2))[counts > 0] / counts[counts > 0]
    return float((-10 * mean.clamp_min(1e-10).log10()).mean())


def sharpness(frames: Frames, masks: Masks) -> float:
    """Mean gradient magnitude of the brightness inside the masks, in grey levels a pixel."""
    sums = count = 0.0
    for frame, mask in zip(frames, masks, strict=True):
        down, across = np.gradient(frame.astype(np.float32).mean(axis=2))
        sums += float(np.hypot(down, across)[mask].sum())
        count += float(mask.sum())
    return ratio(sums, count)


class Likeness:
    """How far drawn faces are from a person, by the net that tells people apart.

    One person's pictures lie under 0.47 apart. Where that net is not installed every distance is
    NaN and `missing` says what to do.
    """

    def __init__(self) -> None:
        self.missing: str | None = None
        self._identity: FaceIdentity | None = None
        try:
            self._identity = FaceIdentity()
        except UserError as error:
            self.missing = f"identity is left out: {error}"

    def distance(
        self, frames: Frames, points: Points, person: Picture, person_points: Landmarks
    ) -> float:
        """Mean distance of some of the frames from one picture of the person."""
        known = np.isfinite(points).all() and np.isfinite(person_points).all()
        if self._identity is None or not known or not len(frames):
            return NOWHERE
        wanted = self._identity(person, person_points)
        chosen = np.unique(np.linspace(0, len(frames) - 1, LOOKS).round().astype(int))
        looks = [self._identity(frames[i], points[i]) for i in chosen]
        return float(np.mean([np.linalg.norm(look - wanted) for look in looks]))
