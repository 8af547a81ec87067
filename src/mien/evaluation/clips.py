"""What the evaluations of speech and of strangers have in common: a real clip, seen and heard.

Axes: t video frames, h w space, s audio samples.
"""

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mien.audio.features import FPS, SAMPLES_PER_FRAME, frame_count
from mien.data.datasets import ClipCache, to_picture
from mien.data.manifest import ClipRecord
from mien.data.store import Store
from mien.errors import UserError
from mien.evaluation.lips import Mouth, mouth_of
from mien.evaluation.looks import face_masks, sharpness
from mien.evaluation.points import Points, track, track_known
from mien.face import FaceMesh
from mien.media import Frames, load_audio


@dataclass(frozen=True)
class Watched:
    """Frames with what FaceMesh sees in them."""

    frames: Frames
    points: Points
    mouth: Mouth

    def __len__(self) -> int:
        return len(self.frames)

    def picture(self, number: int) -> Float[Tensor, "1 3 h w"]:
        """One frame as the nets take it."""
        return to_picture(torch.from_numpy(self.frames[number : number + 1]))

    def sharpness(self) -> float:
        """Mean gradient inside the face, grey levels a pixel; NaN without a face."""
        return sharpness(self.frames, face_masks(self.points, self.frames.shape[1]))

    def rest(self, within: int | None = None) -> int:
        """The frame of the first `within` (default: all) in which the lips are nearest."""
        return int(np.argmin(self.mouth.gap[:within]))


def watch(mesh: FaceMesh, frames: Frames) -> Watched:
    """Look at frames that were drawn, and may show no face (their measures are NaN then)."""
    points = track(mesh, frames)
    return Watched(frames, points, mouth_of(points))


def watch_clip(
    mesh: FaceMesh, clips: ClipCache, record: ClipRecord, seconds: float | None
) -> Watched:
    """Look at a clip, or its first `seconds`.

    Raises:
        UserError: it cannot be read, or shows no face in most of its frames.
    """
    frames = clips.frames(record)[: None if seconds is None else max(2, round(seconds * FPS))]
    pixels = frames.numpy()
    points = track_known(mesh, pixels, record.path)
    return Watched(pixels, points, mouth_of(points))


def load_clip_sound(root: Path, record: ClipRecord, frames: int) -> Float[Tensor, " s"]:
    """The sound under a clip's first frames, at most so many.

    Raises:
        UserError: it has none, or less than a frame of it.
    """
    with Store(root).file(record.path) as path:
        sound = load_audio(path)[: frames * SAMPLES_PER_FRAME]
    if frame_count(max(1, len(sound))) < 3:
        raise UserError(f"{record.path} has hardly any sound: leave it out")
    return sound


def read_lags(path: Path | None, records: Sequence[ClipRecord]) -> dict[str, int]:
    """By how many frames the sound of each clip lags its lips (negative: leads); 0 where not said.

    A JSON object, or lines of name and number parted by a tab (a line that starts with # is a
    remark); names are clip paths, or files without their folder.

    Raises:
        UserError: the file cannot be read, a value is no whole number, or no clip has the name.
    """
    if path is None:
        return {}
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".json":
            given = json.loads(text)
            pairs = list(given.items()) if isinstance(given, dict) else [("", given)]
        else:
            rows = csv.reader(text.splitlines(), delimiter="\t")
            pairs = [(row[0], row[1] if len(row) > 1 else "")
                     for row in rows if row and not row[0].startswith("#")]  # fmt: skip
    except (OSError, ValueError) as error:
        raise UserError(f"the offsets {path} cannot be read ({error}): check the file") from error
    known = {name: record.path for record in records
             for name in (Path(record.path).name, record.path)}  # fmt: skip
    lags: dict[str, int] = {}
    for name, value in pairs:
        if isinstance(value, bool) or not str(value).strip().lstrip("+-").isdigit():
            raise UserError(
                f"{path}: {name or 'the file'} {value!r} is not a whole number of frames: "
                "give clips and the frames by which their sound lags"
            )
        if name in known:
            lags[known[name]] = int(value)
    if pairs and not lags:
        raise UserError(f"{path} names none of the clips, such as {records[0].path}: check names")
    return lags
