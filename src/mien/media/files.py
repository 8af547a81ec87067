"""Atomic writing of files, and the errors of writing."""

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
