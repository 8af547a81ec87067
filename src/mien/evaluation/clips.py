"""Inputs of the `speech` and `cross` evaluations: a real clip, its face track and its audio.

Axes: s audio samples.
"""

import csv
import json
from collections.abc import Sequence
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from mien.audio.features import FPS, SAMPLES_PER_FRAME, frame_count
from mien.data.datasets import ClipCache
from mien.data.manifest import ClipRecord
from mien.data.store import Store
from mien.errors import UserError
from mien.evaluation.comparison import TrackedClip
from mien.evaluation.points import track, track_known
from mien.face import FaceMesh
from mien.media import Frames, load_audio


def track_frames(mesh: FaceMesh, frames: Frames, exact: Tensor | None = None) -> TrackedClip:
    """Track the face in generated frames; without a face, all measures are NaN."""
    return TrackedClip(frames, track(mesh, frames), exact)


def track_clip(
    mesh: FaceMesh, clips: ClipCache, record: ClipRecord, seconds: float | None
) -> TrackedClip:
    """Track the face in a clip, or in its first `seconds`.

    Raises:
        UserError: it cannot be read, or shows no face in most of its frames.
    """
    frames = clips.frames(record)[: None if seconds is None else max(2, round(seconds * FPS))]
    pixels = frames.numpy()
    return TrackedClip(pixels, track_known(mesh, pixels, record.path))


def load_clip_sound(root: Path, record: ClipRecord, frames: int) -> Float[Tensor, " s"]:
    """The audio of a clip's first `frames` frames.

    Raises:
        UserError: it has none, or less than three frames of it.
    """
    with Store(root).file(record.path) as path:
        sound = load_audio(path)[: frames * SAMPLES_PER_FRAME]
    if frame_count(max(1, len(sound))) < 3:
        raise UserError(f"{record.path} has less than three frames of audio: leave it out")
    return sound


def read_lags(path: Path | None, records: Sequence[ClipRecord]) -> dict[str, int]:
    """Frames by which the audio of each clip lags its lips (negative: leads); clips that the file
    does not list are left out.

    A JSON object, or lines of name and number separated by a tab (lines that start with # are
    comments); names are clip paths, or file names without folder.

    Raises:
        UserError: the file cannot be read, a value is not an integer, or no clip has such a name.
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
