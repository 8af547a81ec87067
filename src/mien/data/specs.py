"""What the data of a stage need to know of the training; the training module says it."""

from dataclasses import dataclass

from mien.audio.pretrained import FrontEndConfig
from mien.types import Framing


@dataclass(frozen=True)
class PortraitSpec:
    """Of an animator.

    Args:
        image_size: side of the frames.
        temporal_context: frames on each side of the driving one that are seen with it.
        guide: whether the meshes of the faces are needed.
        framing: what the clips must show.
        accumulate: batches that make one step.
    """

    image_size: int
    temporal_context: int = 0
    guide: bool = False
    framing: Framing = "face"
    accumulate: int = 1


@dataclass(frozen=True)
class SpeechSpec:
    """Of a speech-to-motion.

    Args:
        appearance_dim: numbers of F_A, which must be the animator's.
        window: frames that are learned at once.
        history: frames before them.
        front_end: what the sound is encoded by.
        mesh: whether the motion of the face's mesh stands behind the animator's.
        accumulate: batches that make one step.
        appearance: whether F_A is a condition, which the animator must then have learned.
    """

    appearance_dim: int
    window: int
    history: int
    front_end: FrontEndConfig
    mesh: bool
    accumulate: int = 1
    appearance: bool = True
