"""What is wrong with a path, before anything is decoded; files that appear whole or not at all."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from av.error import FFmpegError

from mien.errors import UserError


def readable(path: Path, what: str) -> Path:
    """The path of a file that is there and not empty; `what` says what it should hold.

    Raises:
        UserError: it is missing, a folder, empty, or not ours to read.
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise UserError(f"{path} is a folder: give the file with the {what}")
        with path.open("rb") as file:
            first = file.read(1)
    except FileNotFoundError as error:
        raise UserError(f"no file {path}: check the path of the {what}") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be opened ({error}): check the {what} file") from error
    if not first:
        raise UserError(f"{path} is empty: give a file with a {what} in it")
    return path


class Unwritable(UserError):
    """The output cannot be written: the disk is full, or the folder takes no file."""


@contextmanager
def writable(path: Path) -> Iterator[None]:
    """Within, what the disk refuses is said of `path`.

    Raises:
        Unwritable: it refused something.
    """
    try:
        yield
    except (OSError, FFmpegError) as error:
        reason = error.strerror or str(error)
        raise Unwritable(
            f"{path} cannot be written ({reason}): check the folder and its free space"
        ) from error


UNFINISHED = ".*.part*"  # what a process that was killed leaves of its files


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A hidden file beside `path`, which takes its name when the block ends well, and else goes."""
    unfinished = path.with_name(f".{path.name[:40]}.{uuid4().hex}.part")
    try:
        yield unfinished
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
