"""Checks of the paths of inputs and outputs before any work is done; nothing heavy is imported."""

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TypeVar

from mien.errors import UserError

First = TypeVar("First")

VIDEO_SUFFIXES: tuple[str, ...] = (".mp4",)  # of the videos that are written


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


def refuse_inputs(
    first: Path,
    second: Path,
    checks: tuple[Callable[[Path], First], Callable[[Path], object]],
    names: tuple[str, str],
) -> First:
    """Check two inputs of a command, each with its own check; `names` are what they are. Returns
    what the first check does.

    Raises:
        UserError: that of a check, or one that says that they are in the wrong order.
    """
    try:
        found = checks[0](first)
        checks[1](second)
        return found
    except UserError as error:
        if _passes(checks[1], first) and _passes(checks[0], second):
            raise UserError(
                f"{first} is the {names[1]} and {second} the {names[0]}: "
                f"the {names[0]} comes first, then the {names[1]}"
            ) from error
        raise


def _passes(check: Callable[[Path], object], path: Path) -> bool:
    try:
        check(path)
    except UserError:
        return False
    return True


def refuse_file(
    output: Path, suffixes: Collection[str], inputs: Collection[Path], overwrite: bool
) -> None:
    """Check the path of an output before any work is done.

    Raises:
        UserError: it has another suffix, its folder is missing, it exists already, or it is an
            input.
    """
    if output.suffix.lower() not in suffixes:
        raise UserError(f"the output {output} must end in {' or '.join(suffixes)}")
    if not output.parent.is_dir():
        raise UserError(f"the folder {output.parent} of the output does not exist: make it first")
    if output.is_dir():
        raise UserError(f"the output {output} is a folder: give the name of a file")
    if not output.exists():
        return
    if any(path.exists() and output.samefile(path) for path in inputs):
        raise UserError(f"the output {output} is an input as well: choose another name with -o")
    if not overwrite:
        raise UserError(f"{output} exists: choose another name with -o, or add --overwrite")


def refuse_video(output: Path, inputs: Mapping[str, Path | None], overwrite: bool) -> None:
    """Check the paths of a video to write and of what it is made from, which are named by their
    content; None is an input that is not given.

    Raises:
        UserError: as `refuse_file` and `readable`.
    """
    given = {what: path for what, path in inputs.items() if path is not None}
    refuse_file(output, VIDEO_SUFFIXES, given.values(), overwrite)
    for what, path in given.items():
        readable(path, what)
