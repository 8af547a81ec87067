"""Is it still the same person?"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mien.evaluation.comparison import Comparison
from mien.evaluation.metric import FrameMetric
from mien.evaluation.series import UNKNOWN
from mien.face import FaceIdentity

LOOKS = 6  # frames of a clip that are embedded, evenly spaced


class IdentityDistance(FrameMetric):
    """Distance of face embeddings (dlib) between a few frames and the portrait; pictures of one
    person are less than 0.47 apart.
    """

    name = "identity"

    def __init__(self) -> None:
        self._identity = FaceIdentity()

    def of_frames(self, pair: Comparison) -> Float[Tensor, " n"]:
        """Of up to LOOKS frames."""
        clip, portrait = pair.clip, pair.portrait
        if not (np.isfinite(clip.points).all() and np.isfinite(portrait.points).all()):
            return torch.full((1,), UNKNOWN)
        wanted = self._identity(portrait.frames[0], portrait.points[0])
        chosen = np.unique(np.linspace(0, len(clip) - 1, LOOKS).round().astype(int))
        found = [self._identity(clip.frames[i], clip.points[i]) for i in chosen]
        return torch.from_numpy(np.array([np.linalg.norm(one - wanted) for one in found]))
