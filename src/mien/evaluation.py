"""Does it work? Self-reenactment beside copying the source, and lips beside the sound reversed.

Axes: t video frames, h w space. Pictures are RGB in [-1, 1].
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from mien.audio.voice_activity import frame_loudness
from mien.data.datasets import ClipCache, by_identity, mouth_map, to_picture
from mien.data.manifest import ClipRecord
from mien.errors import UserError
from mien.face import FaceMesh, lip_gap
from mien.media import load_audio, read_frames
from mien.metrics import SyncScore, l1, lip_sync, psnr, ssim, weighted_l1
from mien.portrait.animator import Animator
from mien.portrait.streaming import FRAMES_AT_ONCE, render_stream


@dataclass(frozen=True)
class Reenactment:
    """Scores of one clip redrawn from its own first frame; `copy_` is that frame, held still.

    dB for psnr, a scale where black to white is 1 for l1; `mouth` is l1 in the mouth box
    (NaN where the manifest has none). `rest_psnr` compares the undriven source with itself.
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

    @property
    def gain(self) -> float:
        """dB above copying the source."""
        return self.psnr - self.copy_psnr

    @property
    def mouth_share(self) -> float:
        """Mouth error as a share of copying's; below 1 is better than copying."""
        return self.mouth / self.copy_mouth if self.copy_mouth else float("nan")


@torch.inference_mode()
def reenact(
    animator: Animator, frames: Float[Tensor, "t 3 h w"], mouth: Float[Tensor, "1 h w"]
) -> Reenactment:
    """Drive the first frame by the later ones and score what is drawn.

    Frames that follow each other in `frames` are drawn as neighbours in time.
    """
    source, driving = frames[:1], frames[1:]
    appearance = animator.encode_appearance(source)
    source_motion = animator.encode_motion(source)
    motion = (animator.encode_motion(part)[None] for part in driving.split(FRAMES_AT_ONCE))
    drawn = torch.cat(list(render_stream(animator, appearance, source_motion, motion)), dim=1)[0]
    copied = source.expand_as(driving)
    weight = mouth.expand(len(driving), -1, -1, -1)

    def mouth_error(pictures: Tensor) -> float:
        error = weighted_l1(pictures.clamp(-1, 1), driving, weight) / 2
        return float(error.mean()) if mouth.any() else float("nan")

    return Reenactment(
        psnr=float(psnr(drawn, driving).mean()),
        copy_psnr=float(psnr(copied, driving).mean()),
        ssim=float(ssim(drawn, driving).mean()),
        copy_ssim=float(ssim(copied, driving).mean()),
        l1=float(l1(drawn, driving).mean()),
        copy_l1=float(l1(copied, driving).mean()),
        mouth=mouth_error(drawn),
        copy_mouth=mouth_error(copied),
        rest_psnr=float(psnr(animator.reconstruct(appearance), source)),
    )


def reenact_clips(
    animator: Animator, records: Sequence[ClipRecord], root: Path, stride: int
) -> Iterable[tuple[ClipRecord, Reenactment]]:
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
        yield record, reenact(animator, frames, mouth_map(record, size))


def mean_of(scores: Sequence[Reenactment]) -> Reenactment:
    """The mean of every score; mouths that are not known are left out."""

    def mean(name: str) -> float:
        values = [value for score in scores if (value := getattr(score, name)) == value]
        return fmean(values) if values else float("nan")

    return Reenactment(**{f.name: mean(f.name) for f in fields(Reenactment)})


def mean_by_identity(
    scored: Sequence[tuple[ClipRecord, Reenactment]],
) -> dict[str, Reenactment]:
    """The mean of each person's clips."""
    score_of = {record.path: score for record, score in scored}
    people = by_identity([record for record, _ in scored])
    return {
        clips[0].identity: mean_of([score_of[record.path] for record in clips]) for clips in people
    }


def video_sync(video: Path, audio: Path | None = None) -> SyncScore:
    """Lip sync of a talking video against a sound file (default: its own sound).

    Raises:
        UserError: a file cannot be read, or no face shows in half of the frames.
    """
    mesh = FaceMesh()
    openings = np.array([mouth_opening(mesh, frame) for frame in read_frames(video)])
    if not len(openings):
        raise UserError(f"the video {video} holds no frame: take another file")
    seen = ~np.isnan(openings)
    if seen.mean() < 0.5:
        raise UserError(f"{video} shows a face in only {seen.mean():.0%} of its frames")
    at = np.arange(len(openings))
    openings = np.interp(at, at[seen], openings[seen]).astype(np.float32)
    waveform = load_audio(audio or video)
    return lip_sync(torch.from_numpy(openings), frame_loudness(waveform, len(openings)))


def mouth_opening(mesh: FaceMesh, frame: UInt8[np.ndarray, "h w 3"]) -> float:
    """The gap between the inner lips over the distance between the eyes; NaN without a face."""
    faces = mesh.faces(frame)
    return lip_gap(mesh.landmarks(frame, faces[0])[0]) if faces else float("nan")
