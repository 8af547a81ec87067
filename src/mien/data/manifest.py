"""A manifest: the clips to train or evaluate on, one JSON object per line
(data_manifests/README.md).

    {"path": "ann/01.mp4", "identity": "ann", "licence": "ccby", "seconds": 2.96, "frames": 74,
     "mouth": [0.38, 0.62, 0.61, 0.79]}

Every line is validated on reading; errors name file and line.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from mien.errors import UserError
from mien.media.files import writable, written_whole
from mien.types import FRAMINGS, Framing

Box = tuple[float, float, float, float]

OPTIONAL = ("mouth", "group", "sound", "framing")
UNWRITTEN = ("content",)  # computed when needed
DEFAULTS = (("group", None), ("sound", True), ("framing", "face"))  # not written


@dataclass(frozen=True)
class ClipRecord:
    """One clip: a square video of one face at 25 frames a second, with sound.

    Args:
        path: of the video, relative to the data root, with forward slashes.
        identity: who speaks; clips of one person share it.
        licence: short word for the terms, such as ccby, pd or own.
        seconds: length.
        frames: number of pictures.
        mouth: box that contains the lips in all frames, x0 y0 x1 y1 in [0, 1], None if unknown.
        group: of a clip made from a portrait (`mien make-pairs`): people of one group make the same
            motion, frame by frame. None: the clip was filmed.
        framing: what the clip shows, "face" or "half_body".
        sound: False if the clip has no audio: stage 2 skips it.
        content: a hash of the clip's bytes, which names cache files (`mien.data.contents`); not
            written to the manifest.
    """

    path: str
    identity: str
    licence: str
    seconds: float
    frames: int
    mouth: Box | None = None
    group: int | None = None
    framing: Framing = "face"
    sound: bool = True
    content: str | None = None

    def __post_init__(self) -> None:
        if not self.path or self.path.startswith("/"):
            raise ValueError(f"path {self.path!r} must be relative to the data root")
        if ".." in self.path.split("/"):
            raise ValueError(f"path {self.path!r} must stay inside the data root")
        if not self.identity:
            raise ValueError("identity is empty: name who speaks")
        if not 0 < self.seconds < float("inf"):
            raise ValueError(f"seconds {self.seconds} must be above 0")
        if self.frames < 1:
            raise ValueError(f"frames {self.frames} must be at least 1")
        if self.mouth is not None:
            x0, y0, x1, y1 = self.mouth
            if not (0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1):
                raise ValueError(
                    f"mouth {list(self.mouth)} must be x0 < x1 and y0 < y1 within 0 and 1"
                )


KEYS = tuple(field.name for field in fields(ClipRecord) if field.name not in UNWRITTEN)


def read_manifest(path: Path, root: Path | None = None) -> list[ClipRecord]:
    """The clips in the order of the file, empty lines skipped; with `root`, each must exist.

    Raises:
        UserError: with file, line, value and what to do.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"the manifest {path} cannot be read ({error}): check the path") from error
    return parse_manifest(text, str(path), root)


def parse_manifest(text: str, name: str, root: Path | None = None) -> list[ClipRecord]:
    """The clips of a manifest's text; `name` is what messages call it.

    Raises:
        UserError: as `read_manifest`.
    """
    records: list[ClipRecord] = []
    seen: dict[str, int] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            record = parse_record(line)
            if record.path in seen:
                raise ValueError(f"{record.path} is in line {seen[record.path]} too: drop one")
            if root is not None and not (Path(root) / record.path).is_file():
                raise ValueError(f"no file {Path(root) / record.path}: check the data root")
        except ValueError as error:
            raise UserError(f"{name}:{number}: {error}") from error
        seen[record.path] = number
        records.append(record)
    return records


def write_manifest(path: Path, records: Iterable[ClipRecord]) -> None:
    """Write the file atomically."""
    with (
        writable(path),
        written_whole(path) as unfinished,
        unfinished.open("w", encoding="utf-8") as lines,
    ):
        for record in records:
            known = {
                k: v
                for k, v in asdict(record).items()
                if k not in UNWRITTEN and (k, v) not in DEFAULTS
            }
            lines.write(json.dumps(known, ensure_ascii=False) + "\n")


def parse_record(line: str) -> ClipRecord:
    """One line of a manifest.

    Raises:
        ValueError: saying what is wrong with the line.
    """
    try:
        given = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON ({error}): write one object a line") from error
    if not isinstance(given, dict):
        raise ValueError(f"{line.strip()[:40]} is not an object: write {{...}} on each line")
    if unknown := sorted(given.keys() - set(KEYS)):
        raise ValueError(f"unknown key {unknown[0]!r}: the keys are {', '.join(KEYS)}")
    if missing := [name for name in KEYS if name not in given and name not in OPTIONAL]:
        raise ValueError(f"the key {missing[0]!r} is missing: add it")
    return ClipRecord(
        path=_text(given, "path"),
        identity=_text(given, "identity"),
        licence=_text(given, "licence"),
        seconds=_number(given["seconds"], "seconds"),
        frames=_count(given["frames"], "frames"),
        mouth=_box(given.get("mouth")),
        sound=_flag(given.get("sound", True), "sound"),
        group=None if given.get("group") is None else _count(given["group"], "group"),
        framing=_framing(given.get("framing", "face")),
    )


def _text(given: dict[str, Any], key: str) -> str:
    if not isinstance(given[key], str):
        raise ValueError(f"{key} {given[key]!r} must be text in quotes")
    return given[key]


def _number(value: Any, key: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{key} {value!r} must be a number")
    return float(value)


def _count(value: Any, key: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{key} {value!r} must be a whole number")
    return value


def _framing(value: Any) -> Framing:
    if value not in FRAMINGS:
        raise ValueError(f"framing {value!r} must be one of {', '.join(FRAMINGS)}")
    return value


def _flag(value: Any, key: str) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{key} {value!r} must be true or false")
    return value


def _box(value: Any) -> Box | None:
    if value is None:
        return None
    if not isinstance(value, list) or len(value) != 4:
        raise ValueError(f"mouth {value!r} must be four numbers x0, y0, x1, y1, or null")
    x0, y0, x1, y1 = (_number(part, "mouth") for part in value)
    return x0, y0, x1, y1
