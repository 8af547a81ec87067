"""Lip sync of a talking video: mouth opening against loudness; control: the audio reversed."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mien.audio.voice_activity import frame_loudness
from mien.data.meshes import face_mesh
from mien.errors import UserError
from mien.evaluation.metrics.sync import SyncScore, lip_sync
from mien.evaluation.points import LEAST_SEEN, mouth_opening
from mien.media import load_audio, read_frames
from mien.ops.interpolation import at_frames


def video_sync(video: Path, audio: Path | None = None) -> SyncScore:
    """Lip sync of a talking video against a sound file (default: its own sound).

    Raises:
        UserError: a file cannot be read, or less than half of the frames show a face.
    """
    return lip_sync(*openings_and_loudness(video, audio))


def openings_and_loudness(
    video: Path, audio: Path | None
) -> tuple[Float[Tensor, " t"], Float[Tensor, " t"]]:
    """How far the mouth is open in each frame, and the RMS of the audio under it.

    Raises:
        UserError: as `video_sync`.
    """
    openings = openings_of(video)
    loudness = frame_loudness(load_audio(audio or video), len(openings))
    return torch.from_numpy(openings), loudness


def openings_of(video: Path) -> Float[np.ndarray, " t"]:
    """How far the mouth is open in each frame of a video, over the distance of the eyes.

    Raises:
        UserError: the file cannot be read, or less than half of the frames show a face.
    """
    mesh = face_mesh()
    openings = np.array([mouth_opening(mesh, frame) for frame in read_frames(video)], np.float32)
    if not len(openings):
        raise UserError(f"the video {video} has no frame: take another file")
    seen = ~np.isnan(openings)
    if seen.mean() < LEAST_SEEN:
        raise UserError(f"{video} shows a face in only {seen.mean():.0%} of its frames")
    return at_frames(openings[seen], np.flatnonzero(seen), np.arange(len(seen)))
