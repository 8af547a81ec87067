"""PSNR inside the face and outside of it."""

import torch
from jaxtyping import Float
from torch import Tensor

from mien.evaluation.comparison import Comparison, Task
from mien.evaluation.masks import Masks
from mien.evaluation.metric import FrameMetric


class FacePsnr(FrameMetric):
    """PSNR inside the reference frame's face, dB."""

    name = "face"
    tasks = frozenset({Task.REENACT})

    def of_frames(self, pair: Comparison) -> Float[Tensor, " t"]:
        """Of the pixels of the face."""
        return psnr_within(pair.clip.pictures, pair.reference.pictures, pair.reference.faces)


class OutsidePsnr(FrameMetric):
    """PSNR outside the reference frame's face, dB; unknown where no frame shows a face."""

    name = "outside"
    tasks = frozenset({Task.REENACT})

    def of_frames(self, pair: Comparison) -> Float[Tensor, " t"]:
        """Of the pixels around the face."""
        faces = pair.reference.faces
        outside = ~faces if faces.any() else faces
        return psnr_within(pair.clip.pictures, pair.reference.pictures, outside)


def psnr_within(
    drawn: Float[Tensor, "t 3 h w"], wanted: Float[Tensor, "t 3 h w"], masks: Masks
) -> Float[Tensor, " t"]:
    """Peak signal-to-noise ratio in dB over the pixels of the masks; equal pixels score 100, and
    without any pixel it is NaN. Pictures are RGB in [-1, 1].
    """
    error = (drawn.clamp(-1, 1) - wanted).square().mean(dim=1) / 4  # peak to peak is 2
    inside = torch.from_numpy(masks).to(error)
    mean = (error * inside).sum(dim=(1, 2)) / inside.sum(dim=(1, 2))  # 0 / 0 is NaN
    return -10 * mean.clamp_min(1e-10).log10()
