"""Checks of input paths before decoding, and atomic writing of files."""

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from av.error import FFmpegError

from mien.errors import UserError

# What reading the arrays of a damaged or foreign .npz can raise.
NPZ_ERRORS = (
    *(OSError, ValueError, KeyError, TypeError, EOFError),
    *(zipfile.BadZipFile, zlib.error),
)


def readable(path: Path, what: str) -> Path:
    """Check that a file exists and is not empty; `what` names its expected content in messages.

    Raises:
        UserError: it is missing, a folder, empty, or not readable.
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise UserError(f"{path} is a folder: give the {what} file")
        with path.open("rb") as file:
            first = file.read(1)
    except FileNotFoundError as error:
        raise UserError(f"no file {path}: check the path of the {what}") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be opened ({error}): check the {what} file") from error
    if not first:
        raise UserError(f"{path} is empty: give a {what} file")
    return path


class Unwritable(UserError):
    """The output cannot be written: the disk is full, or the folder is not writable."""


@contextmanager
def writable(path: Path) -> Iterator[None]:
    """Turn errors of writing within the block into one that names `path`.

    Raises:
        Unwritable: something could not be written.
    """
    try:
        yield
    except (OSError, FFmpegError) as error:
        reason = error.strerror or str(error)
        raise Unwritable(
            f"{path} cannot be written ({reason}): check the folder and its free space"
        ) from error


UNFINISHED = ".*.part*"  # temporary files that a killed process leaves


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A temporary file beside `path`, renamed to it if the block succeeds, else deleted."""
    unfinished = path.with_name(f".{path.name[:40]}.{uuid4().hex}.part")
    try:
        yield unfinished
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
