"""What the datasets of a stage need to know of the model; the training module provides it."""

from dataclasses import dataclass

from mien.audio.pretrained import FrontEndConfig
from mien.face_model.maps import Positions
from mien.types import Framing


@dataclass(frozen=True)
class PortraitSpec:
    """Requirements of an animator.

    Args:
        image_size: side of the frames.
        temporal_context: frames on each side of the driving one that the motion encoder sees.
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
    """Requirements of a speech-to-motion net.

    Args:
        appearance_dim: dimension of F_A, which must be the animator's.
        window: frames of a sample.
        history: frames before them.
        front_end: the audio front end.
        mesh: whether the mesh motion is appended to the animator's motion.
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


@dataclass(frozen=True)
class WindowSpec:
    """Requirements of Loki.

    Args:
        image_size: side of the frames.
        map_size: side of the face maps.
        window: frames of a sample.
        positions: those of the face maps.
        accumulate: batches that make one step.
    """

    image_size: int
    map_size: int
    window: int
    positions: Positions = "projected"
    accumulate: int = 1
