"""Self-reenactment: a clip redrawn from its own first frame, beside copying that frame.

Axes: t video frames, h w space. Pictures are RGB in [-1, 1].
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from mien.data.datasets import ClipCache, mouth_map, to_picture
from mien.data.manifest import ClipRecord
from mien.errors import UserError
from mien.evaluation.drive import drive
from mien.evaluation.lips import NOWHERE, ratio
from mien.evaluation.looks import Likeness, face_masks, psnr_within, sharpness
from mien.evaluation.points import track
from mien.evaluation.steadiness import trembling
from mien.face import FaceMesh
from mien.media import to_bytes
from mien.metrics import l1, psnr, ssim, weighted_l1
from mien.portrait.animator import Animator


@dataclass(frozen=True)
class Reenactment:
    """Scores of one clip redrawn from its own first frame; `copy_` is that frame, held still.

    dB for psnr, a scale where black to white is 1 for l1; `mouth` is l1 in the mouth box
    (NaN where the manifest has none). `rest_psnr` compares the undriven source with itself.
    `face` and `outside` are dB inside and outside the driving frame's face; `sharpness` is that of
    the drawn face over the real one's, `tremble` the second difference of stable points over the
    real clip's, `identity` the distance of faces from the source (`real_identity`: of real ones).
    """

    psnr: float
    copy_psnr: float
    ssim: float
    copy_ssim: float
    l1: float
    copy_l1: float
    mouth: float
    copy_mouth: float
    rest_psnr: float
    face: float = NOWHERE
    copy_face: float = NOWHERE
    outside: float = NOWHERE
    copy_outside: float = NOWHERE
    sharpness: float = NOWHERE
    tremble: float = NOWHERE
    identity: float = NOWHERE
    real_identity: float = NOWHERE

    @property
    def gain(self) -> float:
        """dB above copying the source."""
        return self.psnr - self.copy_psnr

    @property
    def mouth_share(self) -> float:
        """Mouth error as a share of copying's; below 1 is better than copying."""
        return self.mouth / self.copy_mouth if self.copy_mouth else float("nan")


@dataclass(frozen=True)
class Redrawn:
    """A clip, what was drawn for its frames but the first, and how near it came."""

    record: ClipRecord
    frames: Float[Tensor, "t 3 h w"]
    drawn: Float[Tensor, "t1 3 h w"]
    score: Reenactment


@torch.inference_mode()
def redraw(animator: Animator, frames: Float[Tensor, "t 3 h w"]) -> Float[Tensor, "t1 3 h w"]:
    """Drive the first frame by the later ones, of which neighbours are neighbours in time."""
    return torch.cat(list(drive(animator, frames[:1], frames[1:])))


@torch.inference_mode()
def reenact(
    animator: Animator,
    frames: Float[Tensor, "t 3 h w"],
    drawn: Float[Tensor, "t1 3 h w"],
    mouth: Float[Tensor, "1 h w"],
) -> Reenactment:
    """Score what `redraw` drew, pixel by pixel, beside the first frame held still."""
    source, driving = frames[:1], frames[1:]
    copied = source.expand_as(driving)
    weight = mouth.expand(len(driving), -1, -1, -1)

    def mouth_error(pictures: Tensor) -> float:
        error = weighted_l1(pictures.clamp(-1, 1), driving, weight) / 2
        return float(error.mean()) if mouth.any() else float("nan")

    undriven = animator.reconstruct(animator.encode_appearance(source))
    return Reenactment(
        psnr=float(psnr(drawn, driving).mean()),
        copy_psnr=float(psnr(copied, driving).mean()),
        ssim=float(ssim(drawn, driving).mean()),
        copy_ssim=float(ssim(copied, driving).mean()),
        l1=float(l1(drawn, driving).mean()),
        copy_l1=float(l1(copied, driving).mean()),
        mouth=mouth_error(drawn),
        copy_mouth=mouth_error(copied),
        rest_psnr=float(psnr(undriven, source)),
    )


class FaceScores:
    """The scores that need the face to be seen; without one they stay unknown (NaN)."""

    def __init__(self) -> None:
        self.mesh, self.likeness = FaceMesh(), Likeness()

    def add(
        self,
        score: Reenactment,
        frames: Float[Tensor, "t 3 h w"],
        drawn: Float[Tensor, "t1 3 h w"],
        steady: bool,
    ) -> Reenactment:
        """The score with these filled in; `steady` says that the frames are 25 a second."""
        seen, made = to_bytes(frames), to_bytes(drawn)
        points, made_points = track(self.mesh, seen), track(self.mesh, made)
        masks = face_masks(points[1:], seen.shape[1])
        beyond = ~masks if masks.any() else masks
        driving, copied = frames[1:], frames[:1].expand_as(frames[1:])
        distance = self.likeness.distance
        return replace(
            score,
            face=psnr_within(drawn, driving, masks),
            copy_face=psnr_within(copied, driving, masks),
            outside=psnr_within(drawn, driving, beyond),
            copy_outside=psnr_within(copied, driving, beyond),
            sharpness=ratio(sharpness(made, masks), sharpness(seen[1:], masks)),
            tremble=ratio(trembling(made_points), trembling(points[1:])) if steady else NOWHERE,
            identity=distance(made, made_points, seen[0], points[0]),
            real_identity=distance(seen[1:], points[1:], seen[0], points[0]),
        )


def reenact_clips(
    animator: Animator, records: Sequence[ClipRecord], root: Path, stride: int, faces: FaceScores
) -> Iterator[Redrawn]:
    """Score every clip on each `stride`-th of its frames.

    Raises:
        UserError: a clip is too short to have a second frame.
    """
    size = animator.config.image_size
    clips = ClipCache(root, size, capacity=1)
    for record in records:
        frames = to_picture(clips.frames(record)[::stride])
        if len(frames) < 2:
            raise UserError(f"{record.path} has no second frame at a stride of {stride}")
        drawn = redraw(animator, frames)
        score = reenact(animator, frames, drawn, mouth_map(record, size))
        yield Redrawn(record, frames, drawn, faces.add(score, frames, drawn, stride == 1))
