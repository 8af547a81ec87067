"""Live Link Face's CSV of ARKit curves, which Unreal Engine, Blender and others read.

The columns are Timecode (HH:MM:SS:FF.mmm), BlendShapeCount, the 52 curves with a capital letter,
HeadYaw, HeadPitch, HeadRoll, and yaw, pitch and roll of the left and the right eye, in radians.
Axes: t frames.
"""

import csv
import zipfile
from pathlib import Path

import numpy as np
from jaxtyping import Float

from mien.errors import UserError
from mien.face.geometry import Array
from mien.face_model.arkit import CURVES, ArkitCurves
from mien.media.files import NPZ_ERRORS, writable, written_whole
from mien.paths import readable

_ANGLES = ("Yaw", "Pitch", "Roll")
_PARTS = ("Head", "LeftEye", "RightEye")
_NAMES = tuple(name[0].upper() + name[1:] for name in CURVES)
COLUMNS = (*_NAMES, *(f"{part}{angle}" for part in _PARTS for angle in _ANGLES))
_ARRAYS = ("names", "values", "head", "eyes", "fps")  # of an .npz
_USUAL = 60.0
_RATES = (24, 25, 30, 50, 60, 120)  # frames a second that recordings have


def save_curves(curves: ArkitCurves, path: Path) -> None:
    """Write .csv (Live Link Face) or .npz (names, values, head, eyes, fps; no pickle).

    Raises:
        Unwritable: the file cannot be written.
    """
    with writable(path), written_whole(path) as unfinished:
        if path.suffix.lower() == ".csv":
            with unfinished.open("w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerow(("Timecode", "BlendShapeCount", *COLUMNS))
                rows = np.concatenate(
                    [curves.values, curves.head, curves.eyes, curves.eyes], axis=1
                )
                for t, row in enumerate(rows):
                    numbers = [f"{value:.8f}" for value in row]
                    writer.writerow((_timecode(t, curves.fps), len(COLUMNS), *numbers))
            return
        with unfinished.open("wb") as file:
            np.savez(
                file,
                names=np.array(CURVES),
                values=curves.values,
                head=curves.head,
                eyes=curves.eyes,
                fps=np.float64(curves.fps),
            )


def load_curves(path: Path) -> ArkitCurves:
    """Read either form; columns of a CSV may be in any order, and missing ones are 0.

    Raises:
        UserError: the file is missing or damaged, or contains no curves.
    """
    path = readable(path, "curves")
    try:
        found = _load_csv(path) if path.suffix.lower() == ".csv" else _load_npz(path)
    except (*NPZ_ERRORS, IndexError, csv.Error) as error:
        raise UserError(
            f"{path} contains no ARKit curves ({error}): give Live Link Face's CSV, "
            "or a file of mien export-motion"
        ) from error
    parts = (found.values, found.head, found.eyes)
    if not len(found) or not all(np.isfinite(part).all() for part in parts):
        raise UserError(f"{path} has no rows, or values that are not finite: export it again")
    return found


def _load_npz(path: Path) -> ArkitCurves:
    kept = np.load(path, allow_pickle=False) if zipfile.is_zipfile(path) else None
    if kept is None:
        raise ValueError("damaged, or neither .csv nor .npz")
    with kept:
        missing = [name for name in _ARRAYS if name not in kept.files]
        if missing:
            raise ValueError(f"no array {missing[0]}; mien export-motion converts mien fit-face's")
        if tuple(kept["names"].tolist()) != CURVES:
            raise ValueError("other names of curves")
        t, fps = len(kept["values"]), float(kept["fps"])
        shapes = {"values": (t, len(CURVES)), "head": (t, 3), "eyes": (t, 3)}
        for name, shape in shapes.items():
            if kept[name].shape != shape:
                raise ValueError(f"{name} of shape {kept[name].shape} instead of {shape}")
        if not 0 < fps < float("inf"):
            raise ValueError(f"{fps:g} frames a second")
        return ArkitCurves(kept["values"], kept["head"], kept["eyes"], fps)


def _load_csv(path: Path) -> ArkitCurves:
    with path.open(newline="", encoding="utf-8-sig") as file:
        head, *rows = [row for row in csv.reader(file) if row] or [[]]
    place = {name.strip().lower(): n for n, name in enumerate(head)}
    known = [name for name in _NAMES if name.lower() in place]
    if not known:
        raise ValueError("no column is named after a curve")
    table = {name: place[name.lower()] for name in COLUMNS if name.lower() in place}

    def columns(names: tuple[str, ...]) -> Float[Array, "t _"]:
        found = np.zeros((len(rows), len(names)))
        for n, name in enumerate(names):
            if name in table:
                found[:, n] = [_number(row, table[name], name, t) for t, row in enumerate(rows, 1)]
        return found

    eyes = [columns(tuple(f"{eye}{angle}" for angle in _ANGLES)) for eye in _PARTS[1:]]
    where = place.get("timecode", 0)
    return ArkitCurves(
        columns(_NAMES),
        columns(tuple(f"Head{angle}" for angle in _ANGLES)),
        (eyes[0] + eyes[1]) / 2,
        _rate([row[where] for row in rows]),
    )


def _number(row: list[str], column: int, name: str, t: int) -> float:
    """One cell of row `t` (1: the first below the header); its place is named if it is no number.

    Raises:
        ValueError: the row is too short, or the cell contains something else.
    """
    try:
        return float(row[column])
    except (ValueError, IndexError) as error:
        found = repr(row[column]) if column < len(row) else "nothing"
        raise ValueError(f"row {t}, {name}: {found} instead of a number") from error


def _timecode(t: int, fps: float) -> str:
    """Hours, minutes, seconds, and frames with thousandths of a frame, from 0."""
    second, frame = divmod(t, round(fps))
    minute, second = divmod(second, 60)
    hour, minute = divmod(minute, 60)
    return f"{hour:02d}:{minute:02d}:{second:02d}:{frame:02d}.000"


def _rate(timecodes: list[str]) -> float:
    """The rate whose frame numbers fit: the smallest usual one above the largest number, or Live
    Link Face's own where all rows lie within one second.
    """
    numbers = [float(code.split(":")[-1]) for code in timecodes]
    largest = int(max(numbers, default=0.0))
    if len({code.rpartition(":")[0] for code in timecodes}) < 2:
        return _USUAL
    return float(next((rate for rate in _RATES if rate > largest), largest + 1))
