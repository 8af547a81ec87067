"""A list of videos to make in one process: the CSV file of `mien infer --jobs`.

A row is a job: `audio`, `portrait` and `output` (mp4), and where given `seed`, `box`
(x0,y0,x1,y1), `channel`, `start` and `end` (seconds). Outputs that exist are finished and skipped.
"""

import csv
import errno
import sys
from argparse import ArgumentTypeError
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mien.command_line import box, positive, seed
from mien.errors import UserError, missing_package

# In the messages of torch where no memory is left, of a GPU or of the machine.
_NO_MEMORY = "out of memory", "can't allocate memory", "not enough memory"
_NEEDED = "audio", "portrait", "output"
_TYPES: dict[str, Callable[[str], Any]] = {
    "audio": Path,
    "portrait": Path,
    "output": Path,
    "seed": seed,
    "box": box,
    "channel": str,
    "start": positive(float, or_zero=True),
    "end": positive(float),
}


@dataclass(frozen=True)
class Job:
    """A row of the file: its line, its output, and the values of its other columns that are not
    empty, as `mien.animate` takes them.
    """

    line: int
    output: Path
    values: dict[str, Any]


def read_jobs(path: Path) -> list[Job]:
    """The jobs of a CSV file with a header, in its order.

    Raises:
        UserError: it cannot be read, a column is missing or unknown, a row has no output or that of
            another row, or a value is not of its column's type.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, restkey="", restval="")
            rows = [(reader.line_num, row) for row in reader]
            names = list(reader.fieldnames or [])
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"the jobs {path} cannot be read ({reason}): give a CSV file") from error
    _refuse_columns(path, names)
    jobs: dict[Path, Job] = {}
    for line, row in rows:
        columns = {name: text.strip() for name, text in row.items() if name and text.strip()}
        if missing := [name for name in _NEEDED if name not in columns]:
            raise UserError(f"line {line} of {path} has no {missing[0]}: fill it in")
        output = Path(columns.pop("output"))
        if output in jobs:
            lines = f"lines {jobs[output].line} and {line}"
            raise UserError(f"{lines} of {path} write the same output {output}: rename one")
        values = {name: _value(name, text, path, line) for name, text in columns.items()}
        jobs[output] = Job(line, output, values)
    return list(jobs.values())


def _refuse_columns(path: Path, names: Sequence[str]) -> None:
    if len(names) == 1 and any(mark in names[0] for mark in ";\t|"):
        raise UserError(f"the first line of {path} is {names[0]!r}: separate columns with commas")
    for name in _NEEDED:
        if name not in names:
            raise UserError(f"{path} has no column {name}: its columns are {', '.join(_TYPES)}")
    for name in names:
        if name not in _TYPES:
            raise UserError(f"{path} has the unknown column {name}: take {', '.join(_TYPES)}")


def _value(name: str, text: str, path: Path, line: int) -> Any:
    try:
        return _TYPES[name](text)
    except ArgumentTypeError as error:
        raise UserError(f"the {name} in line {line} of {path}: {error}") from error


def run_jobs(jobs: Sequence[Job], make: Callable[[Job], object], overwrite: bool = False) -> None:
    """Make every output that is not there yet; a job that fails, for any reason, is reported on
    stderr, and the others go on.

    Raises:
        UserError: at the end, with the number of jobs that failed.
    """
    failed = skipped = 0
    for number, job in enumerate(jobs, 1):
        where = f"{number} of {len(jobs)}, line {job.line}"
        if job.output.is_file() and not overwrite:
            skipped += 1
            continue
        try:
            print(f"{where}: {make(job)}", flush=True)
        except Exception as error:
            failed += 1
            print(f"error: {where}: {_sentence(error)}", file=sys.stderr, flush=True)
    made = len(jobs) - skipped - failed
    print(f"{made} written, {skipped} there already, {failed} failed")
    if failed:
        raise UserError(f"{failed} of {len(jobs)} jobs failed: correct them and run this again")


def _sentence(error: Exception) -> str:
    """Why a job failed; beyond mistakes in its row, memory or disk may be exhausted."""
    if isinstance(error, ModuleNotFoundError):
        error = missing_package(error) or error
    if isinstance(error, UserError):
        return str(error)
    text = " ".join(str(error).split())
    if isinstance(error, MemoryError) or any(words in text for words in _NO_MEMORY):
        return "the memory does not suffice: free some, or run fewer processes at once"
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return "the disk is full: free some space"
    return f"unexpected {type(error).__name__} ({text}): please report it"
