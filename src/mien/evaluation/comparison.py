"""The input of a metric: a clip and its reference, aligned frame by frame.

Axes: t video frames, k frames of motion, n sounds, m motion, h w space,
d embedding dimensions.
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Float32, Int
from torch import Tensor

from mien.data.datasets import to_picture
from mien.data.faces import faces_in
from mien.data.meshes import ClipMeshes, face_mesh, track_meshes
from mien.evaluation.masks import Masks, face_masks
from mien.evaluation.points import Mouth, Points, mouth_of
from mien.evaluation.series import Series
from mien.face_model.coefficients import FaceCoefficients
from mien.media import Frames


class Task(StrEnum):
    """The evaluation: lips from a clip's audio, a portrait driven by another person's clip,
    self-reenactment of a clip from its first frame, or how well a portrait follows a driver who is
    the same person, or another one.
    """

    SPEECH = "speech"
    CROSS = "cross"
    REENACT = "reenact"
    FOLLOW = "follow"
    FOLLOW_OTHER = "follow_other"


@dataclass(frozen=True)
class TrackedClip:
    """Frames, and the landmarks of the face in each (NaN where no face was found).

    `exact` are the same frames on the device of the nets, before quantisation to uint8.
    """

    frames: Frames
    points: Points
    exact: Float[Tensor, "t 3 h w"] | None = None

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def pictures(self) -> Float[Tensor, "t 3 h w"]:
        """The frames in [-1, 1]."""
        return to_picture(torch.from_numpy(self.frames)) if self.exact is None else self.exact

    @cached_property
    def mouth(self) -> Mouth:
        """Gap and width of the lips in every frame."""
        return mouth_of(self.points)

    @cached_property
    def faces(self) -> Masks:
        """Where the face is in every frame."""
        return face_masks(self.points, self.frames.shape[1])

    @cached_property
    def meshes(self) -> ClipMeshes:
        """The frames' meshes as a guide takes them: for all portraits that they drive."""
        return track_meshes(face_mesh(), self.frames)

    @cached_property
    def fit(self) -> FaceCoefficients | None:
        """The face model fitted to the frames that show a face; None if none does."""
        return faces_in(self.frames)

    @cached_property
    def embeddings(self) -> dict[int, Float32[np.ndarray, " d"]]:
        """Embeddings of identity by frame: metrics that need one keep it here for the others."""
        return {}

    def rest(self, within: int | None = None) -> int:
        """The frame with the smallest lip gap, of the first `within` (default: all)."""
        return int(np.argmin(self.mouth.gap[:within]))

    def part(self, start: int, end: int | None = None) -> "TrackedClip":
        """Its frames from `start` to before `end`."""
        kept = slice(start, end)
        exact = None if self.exact is None else self.exact[kept]
        return TrackedClip(self.frames[kept], self.points[kept], exact)

    def held(self, number: int, count: int) -> "TrackedClip":
        """A still clip: one of its frames repeated `count` times."""
        frame = self.part(number, number + 1)
        return TrackedClip(
            np.broadcast_to(frame.frames, (count, *frame.frames.shape[1:])),
            np.broadcast_to(frame.points, (count, *frame.points.shape[1:])),
            None if frame.exact is None else frame.exact.expand(count, -1, -1, -1),
        )


@dataclass(frozen=True)
class Comparison:
    """A clip to be scored, and everything metrics may need; unknown values are None.

    Args:
        task: the evaluation.
        clip: what is scored: generated frames, or a baseline.
        reference: the real clip, or the driver; frame i belongs to frame i of `clip`.
        portrait: the one frame that was animated.
        every_frame: neighbours are 1/25 s apart; False where frames were left out.
        mouth_map: 1 in the mouth box of the manifest, 0 elsewhere.
        loudness: RMS of the audio under every frame.
        speaking: voice activity, 1 where somebody speaks, 0 where not.
        closures: frames with a p, b or m, also before and after the clip.
        motion: the generated motion for the whole audio.
        joins: frames of `motion` at which its windows join.
        second: the same, with the landmarks of another net.
    """

    task: Task
    clip: TrackedClip
    reference: TrackedClip
    portrait: TrackedClip
    every_frame: bool = True
    mouth_map: Float[Tensor, "1 h w"] | None = None
    loudness: Float[Tensor, " t"] | None = None
    speaking: Series | None = None
    closures: Int[np.ndarray, " n"] | None = None
    motion: Float[Tensor, "1 k m"] | None = None
    joins: tuple[int, ...] = ()
    second: "Comparison | None" = None

    def __post_init__(self) -> None:
        if len(self.clip) != len(self.reference):
            raise ValueError(
                f"{len(self.clip)} frames cannot be compared with {len(self.reference)}"
            )

    @cached_property
    def known(self) -> dict[str, float]:
        """Scores by the names of their metrics: those that take long are kept here, since the
        metric of a clip and that of all clips both need them.
        """
        return {}

    def with_points(self, clip: Points, reference: Points) -> "Comparison":
        """The same frames with the landmarks of another net."""
        return replace(
            self,
            clip=TrackedClip(self.clip.frames, clip),
            reference=TrackedClip(self.reference.frames, reference),
        )
