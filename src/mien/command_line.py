"""Shared by all commands: a parser whose messages are one sentence, argument types, a guard that
turns errors and signals into exit statuses, a progress bar.
"""

import argparse
import atexit
import gc
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from mien.devices import add_engine_options
from mien.errors import UserError, missing_package

if TYPE_CHECKING:
    from mien.face import Box

Settings = TypeVar("Settings")
Progress = Callable[[int, int], None]

INTERRUPTED, TERMINATED = 130, 143  # what shells expect: 128 + the signal's number


class Terminated(BaseException):
    """SIGTERM was received: unwind like Ctrl-C, so that no partial file is left behind."""


class Stopped(KeyboardInterrupt):
    """A training was stopped: what it leaves can be resumed; `status` is the command's."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


STOPS: dict[int, type[BaseException]] = {INTERRUPTED: KeyboardInterrupt, TERMINATED: Terminated}


class Parser(argparse.ArgumentParser):
    """An argument parser whose error messages are one sentence; options are written in full."""

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **{**named, "allow_abbrev": False})

    def error(self, message: str) -> NoReturn:
        """Raise a wrong command line as a UserError."""
        raise UserError(f"{message} (--help shows the use)")


def add_video_options(p: Parser, named_after: str, needs_portrait: bool = True) -> None:
    """The options of every command that turns a portrait into a video."""
    scale = positive(float, or_zero=True)
    p.add_argument("portrait", type=Path, nargs=None if needs_portrait else "?",
                   help="a picture with a face: png, jpg, webp, tiff ...")  # fmt: skip
    p.add_argument("-o", "--output", type=Path,
                   help=f"mp4 to write (default: named after the {named_after})")  # fmt: skip
    p.add_argument("--overwrite", action="store_true", help="replace the output if it exists")
    p.add_argument("--box", type=box, metavar="X0,Y0,X1,Y1", help="the face by hand, in pixels")
    p.add_argument("--expression-scale", type=scale, help="how strongly lips and face move (1)")
    p.add_argument("--pose-scale", type=scale, help="how strongly the head moves (1; 0: still)")
    p.add_argument("--animator", type=Path, help="stage-1 weights (default: those that ship)")
    p.add_argument("--threads", type=positive(int), help="CPU threads (default: torch's choice)")
    add_engine_options(p)


def box(text: str) -> "Box":
    """Argument type: x0,y0,x1,y1 -> the corners of a rectangle."""
    try:
        x0, y0, x1, y1 = (float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text} is not four numbers x0,y0,x1,y1") from None
    if not (x0 < x1 and y0 < y1):
        raise argparse.ArgumentTypeError(f"{text} is empty: x0 < x1 and y0 < y1 must hold")
    return x0, y0, x1, y1


def positive(kind: type[int] | type[float], or_zero: bool = False) -> Callable[[str], int | float]:
    """Argument type: a finite number above zero, or zero as well with `or_zero`."""

    def number(text: str) -> int | float:
        try:
            value = kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text} is not a number") from None
        if not (0 < value < float("inf") or (or_zero and value == 0)):
            wanted = "0 or above" if or_zero else "above 0"
            raise argparse.ArgumentTypeError(f"{text} is not {wanted}")
        return value

    return number


def seed(text: str) -> int:
    """Argument type: a random seed."""
    from mien.config import refuse_seed  # which takes time to import

    try:
        refuse_seed(value := int(text))
    except (ValueError, UserError):
        raise argparse.ArgumentTypeError(
            f"{text} is no seed: give a whole number, 0 or above, of at most 64 bits"
        ) from None
    return value


def run_guarded(work: Callable[[], None], afterwards: str = "nothing was written") -> int:
    """Run a command: errors become one sentence, signals leave no partial file behind.

    `afterwards` is added to the message when the command is stopped.
    """
    atexit.unregister(_leave_garbage)
    atexit.register(_leave_garbage)
    try:
        with _sigterm_unwinds():
            work()
    except (UserError, ModuleNotFoundError) as error:
        return failed(error)
    except KeyboardInterrupt:
        print(f"stopped: {afterwards}", file=sys.stderr)
        return INTERRUPTED
    except Terminated:
        print(f"terminated: {afterwards}", file=sys.stderr)
        return TERMINATED
    finally:
        gc.unfreeze()  # what `starting` left out, for a caller who goes on
    return 0


def _leave_garbage() -> None:
    """When Python ends it looks for garbage once more: half a second among what torch imports.
    Where Triton is loaded it does: Triton's bindings report as leaked what is left.
    """
    if "triton" not in sys.modules:
        gc.freeze()


@contextmanager
def starting() -> Iterator[None]:
    """While modules are imported and nets are loaded, Python does not look for garbage: they make
    200,000 objects that stay. It leaves these out afterwards, until the command ends, and with them
    what is garbage by then: not for what a command does again and again.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if enabled:
            gc.enable()


def failed(error: UserError | ModuleNotFoundError) -> int:
    """Print a mistake as one sentence; returns the exit status.

    Raises:
        ModuleNotFoundError: the error itself, where no extra of mien brings the package.
    """
    sentence = error if isinstance(error, UserError) else missing_package(error)
    if sentence is None:
        raise error
    print(f"error: {sentence}", file=sys.stderr)
    return 1


@contextmanager
def _sigterm_unwinds() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def unwind(number: int, frame: FrameType | None) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, unwind)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def settings_from(defaults: Settings, given: argparse.Namespace) -> Settings:
    """A dataclass of settings: values from the command line where given, else `defaults`."""
    given_ones = {name: value for name, value in vars(given).items() if value is not None}
    names = {field.name for field in fields(defaults)}  # pyright: ignore[reportArgumentType]
    return replace(defaults, **{k: v for k, v in given_ones.items() if k in names})  # pyright: ignore[reportArgumentType]


@contextmanager
def progress_bar() -> "Iterator[Progress]":
    """A progress bar of frames on stderr, shown only on a terminal."""
    from tqdm import tqdm

    with tqdm(unit="frame", disable=None, leave=False) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield show
