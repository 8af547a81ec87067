"""Structural similarity of whole pictures."""

import torch
from jaxtyping import Float
from torch import Tensor

from mien.evaluation.comparison import Comparison, Task
from mien.evaluation.metric import FrameMetric

AT_ONCE = 32  # frames; all maps of a frame take five times its memory


class Ssim(FrameMetric):
    """Structural similarity of each frame (Wang 2004: Gaussian of 11, sigma 1.5, 0.01, 0.03)."""

    name = "ssim"
    tasks = frozenset({Task.REENACT})

    def of_frames(self, pair: Comparison) -> Float[Tensor, " t"]:
        """Of the whole frame."""
        clips = pair.clip.pictures.split(AT_ONCE), pair.reference.pictures.split(AT_ONCE)
        return torch.cat([ssim(clip, other) for clip, other in zip(*clips, strict=True)])


def ssim(drawn: Float[Tensor, "b 3 h w"], wanted: Float[Tensor, "b 3 h w"]) -> Float[Tensor, " b"]:
    """Structural similarity of each picture; RGB in [-1, 1]."""
    from torchmetrics.functional.image import structural_similarity_index_measure

    similarity = structural_similarity_index_measure(
        drawn.clamp(-1, 1), wanted, sigma=1.5, reduction="none", data_range=2.0
    )
    assert isinstance(similarity, Tensor)
    return similarity.reshape(len(drawn))
