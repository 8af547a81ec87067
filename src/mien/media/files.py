"""What is wrong with a path before anything is decoded."""

from pathlib import Path

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
