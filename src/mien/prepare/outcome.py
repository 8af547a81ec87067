"""The result of one source: what the cutter returns and `records.jsonl` stores."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mien.data.manifest import ClipRecord
from mien.errors import UserError
from mien.face import Box
from mien.prepare.checks import Measures
from mien.prepare.collections import Source
from mien.types import FPS, Framing

CLIPS, STRIPS, RECORDS = "clips", "strips", "records.jsonl"  # below the data set's folder
SPLITS = ("train", "valid")


@dataclass(frozen=True)
class Part:
    """A section of a video: a clip if `reasons` is empty, else a rejected one.

    Args:
        name: of the clip and the strip, relative to their folders and without suffix.
        first: its first frame in the video (at 25 frames a second).
        frames: number of frames.
        square: the crop, in pixels of the video.
        mouth: box in [0, 1] of the clip that contains the lips in all frames.
        sound_moved: frames by which late audio was shifted to match the lips (negative: early
            audio).
        measures: the values that the checks compared.
        reasons: why it is rejected, a sentence each.
        embedding: mean face embedding, where people are identified by face.
        identity: who it is, filled in by `DataSet`, which knows all sources.
        split: "train" or "valid", likewise.
        sound: whether the video has an audio track; without one the clip is silent.
    """

    name: str
    first: int
    frames: int
    square: Box
    mouth: Box | None
    sound_moved: int
    measures: Measures
    reasons: list[str]
    embedding: list[float] | None = None
    identity: str | None = None
    split: str | None = None
    sound: bool = True

    @property
    def clip(self) -> str:
        """The clip's file below the folder of clips."""
        return f"{self.name}.mp4"


@dataclass(frozen=True)
class Outcome:
    """The result of one source: its parts, notes, and why it has none, if so."""

    source: Source
    parts: list[Part]
    notes: list[str]
    problem: str | None
    content: str | None  # hash of the file

    def as_record(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)


def read_outcome(saved: dict[str, Any]) -> Outcome:
    """An outcome as `as_record` wrote it."""
    return Outcome(
        **saved
        | {
            "source": Source(**saved["source"]),
            "parts": [_read_part(part) for part in saved["parts"]],
        }
    )


def _read_part(saved: dict[str, Any]) -> Part:
    mouth = saved["mouth"]
    return Part(
        **saved
        | {
            "square": tuple(saved["square"]),
            "mouth": None if mouth is None else tuple(mouth),
            "measures": Measures(**saved["measures"]),
        }
    )


def read_records(folder: Path) -> Iterator[Outcome]:
    """The outcomes of all sources of a data set, one after another.

    Raises:
        UserError: there are no records, or they cannot be read.
    """
    path = folder / RECORDS
    try:
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                yield read_outcome(json.loads(line))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} cannot be read ({error}): prepare the data set first") from error


def clip_record(part: Part, licence: str, framing: Framing) -> ClipRecord:
    """The manifest record of an accepted part."""
    assert part.identity is not None, "DataSet fills in who it is"
    seconds = part.frames / FPS
    path = f"{CLIPS}/{part.clip}"
    return ClipRecord(
        path,
        part.identity,
        licence,
        seconds,
        part.frames,
        part.mouth,
        sound=part.sound,
        framing=framing,
    )
