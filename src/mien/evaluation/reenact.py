"""Self-reenactment: a clip rendered from its own first frame; baseline: copying that frame.

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
from mien.data.meshes import face_mesh
from mien.devices import FULL, autocast
from mien.errors import UserError
from mien.evaluation.clips import track_frames
from mien.evaluation.comparison import Comparison, Task
from mien.evaluation.drive import drive
from mien.media import to_bytes
from mien.portrait.animator import Animator

MEANING = """Every clip is rendered from its own first frame: `drawn`. Baselines: `copied` is that
frame repeated, `real` the clip itself, and `undriven` that frame rendered without any motion,
against itself."""


@dataclass(frozen=True)
class Redrawn:
    """A clip: its frames after the first as rendered, and the baselines."""

    record: ClipRecord
    rows: dict[str, Comparison]


@torch.inference_mode()
def redraw(
    animator: Animator, frames: Float[Tensor, "t 3 h w"], precision: str = FULL
) -> Float[Tensor, "t1 3 h w"]:
    """Drive the first frame by the later ones, which are in temporal order."""
    with autocast(frames.device, precision):
        return torch.cat(list(drive(animator, frames[:1], frames[1:])))


@torch.inference_mode()
def undriven(
    animator: Animator, source: Float[Tensor, "1 3 h w"], precision: str = FULL
) -> Float[Tensor, "1 3 h w"]:
    """Draw the source as it is."""
    with autocast(source.device, precision):
        return animator.reconstruct(animator.encode_appearance(source)).float()


def compare(
    animator: Animator,
    frames: Float[Tensor, "t 3 h w"],
    mouth: Float[Tensor, "1 h w"],
    every_frame: bool = True,
    precision: str = FULL,
) -> dict[str, Comparison]:
    """Reenact frames on the animator's device; the rendered frames and the baselines.

    `mouth` is 1 in the mouth box, `every_frame` says that the frames are 25 a second.
    """
    frames = frames.to(next(animator.parameters()).device)
    drawn = redraw(animator, frames, precision)
    at_rest = undriven(animator, frames[:1], precision)
    seen = track_frames(face_mesh(), to_bytes(frames), frames)
    source, driving = seen.part(0, 1), seen.part(1)
    pair = Comparison(
        Task.REENACT,
        track_frames(face_mesh(), to_bytes(drawn), drawn),
        driving,
        source,
        every_frame,
        mouth,
    )
    still = track_frames(face_mesh(), to_bytes(at_rest), at_rest)
    return {
        "drawn": pair,
        "copied": replace(pair, clip=source.held(0, len(driving))),
        "real": replace(pair, clip=driving),
        "undriven": replace(pair, clip=still, reference=source),
    }


def reenact_clips(
    animator: Animator,
    records: Sequence[ClipRecord],
    root: Path,
    stride: int,
    precision: str = FULL,
) -> Iterator[Redrawn]:
    """Reenact every clip on each `stride`-th of its frames.

    Raises:
        UserError: a clip is too short to have a second frame.
    """
    size = animator.config.image_size
    clips = ClipCache(root, size, capacity=1)
    for record in records:
        frames = to_picture(clips.frames(record)[::stride])
        if len(frames) < 2:
            raise UserError(f"{record.path} has no second frame at a stride of {stride}")
        mouth = mouth_map(record, size)
        yield Redrawn(record, compare(animator, frames, mouth, stride == 1, precision))
