"""Is it still the same person?

Axes: n frames, d embedding dimensions.
"""

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from mien.evaluation.comparison import Comparison, Task, TrackedClip
from mien.evaluation.metric import ClipMetric, FrameMetric
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
        wanted = embedded(self._identity, portrait)[0]
        found = embedded(self._identity, clip)
        return torch.from_numpy(np.linalg.norm(found - wanted, axis=1))


class IdentityCosine(ClipMetric):
    """Cosine of face embeddings (dlib; the authors' net is ArcFace, which may not be used freely)
    between a few frames and the portrait, times the share of frames that show a face. A face that
    does not move scores best: read it beside head_pose and expression.
    """

    name = "id_cosine"
    tasks = frozenset({Task.FOLLOW, Task.FOLLOW_OTHER})

    def __init__(self) -> None:
        self._identity = FaceIdentity()

    def of_clip(self, pair: Comparison) -> float:
        """Over up to LOOKS frames."""
        clip, portrait = pair.clip, pair.portrait
        if not (np.isfinite(clip.points).all() and np.isfinite(portrait.points).all()):
            return UNKNOWN
        wanted, found = embedded(self._identity, portrait)[0], embedded(self._identity, clip)
        lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(wanted)
        seen = float(clip.meshes.found.float().mean())
        return seen * float((found @ wanted / lengths).mean())


class NearerToPortrait(ClipMetric):
    """Share of clips whose face is nearer to the portrait's than to the driver's (embeddings of
    dlib, mean distance over a few frames).
    """

    name = "nearer"
    tasks = frozenset({Task.FOLLOW_OTHER})

    def __init__(self) -> None:
        self._identity = FaceIdentity()

    def of_clip(self, pair: Comparison) -> float:
        """1 or 0."""
        clips = pair.clip, pair.portrait, pair.reference
        if not all(np.isfinite(clip.points).all() for clip in clips):
            return UNKNOWN
        drawn, portrait, driver = (embedded(self._identity, clip) for clip in clips)
        to_portrait, to_driver = (
            np.linalg.norm(drawn - other.mean(axis=0), axis=1).mean()
            for other in (portrait, driver)
        )
        return float(to_portrait < to_driver)


def embedded(identity: FaceIdentity, clip: TrackedClip) -> Float32[np.ndarray, "n d"]:
    """The embeddings of up to LOOKS frames of a clip in which a face was found."""
    chosen = np.unique(np.linspace(0, len(clip) - 1, LOOKS).round().astype(int)).tolist()
    for i in chosen:
        if i not in clip.embeddings:
            clip.embeddings[i] = identity(clip.frames[i], clip.points[i])
    return np.stack([clip.embeddings[i] for i in chosen])
