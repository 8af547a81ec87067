"""`tools/infer.py audio.wav portrait.png` and `mien infer`: the command around mien.animate."""

import argparse
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn, TypeVar

from mien.errors import UserError

if TYPE_CHECKING:
    from mien.pipeline import Box, Progress
    from mien.report import Report

Settings = TypeVar("Settings")

INTERRUPTED, TERMINATED = 130, 143  # what shells expect: 128 + the signal's number


class Terminated(BaseException):
    """SIGTERM came: unwind like Ctrl-C, so that nothing half-made stays behind."""


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are one sentence."""

    def error(self, message: str) -> NoReturn:
        """Tell a wrong command line as any other mistake."""
        raise UserError(f"{message} (--help shows the use)")


def parser() -> Parser:
    """The arguments of `mien infer`."""
    p = Parser(
        prog="mien infer",
        description="Make a portrait say what an audio file says, as an mp4 with sound.",
    )
    p.add_argument("audio", type=Path, help="speech: wav, mp3, m4a, flac, the sound of a video ...")
    p.add_argument("portrait", type=Path, help="a picture with a face: png, jpg, webp, tiff ...")
    p.add_argument(
        "-o", "--output", type=Path, help="mp4 to write (default: named after the audio)"
    )
    p.add_argument("--overwrite", action="store_true", help="replace the output if it exists")
    p.add_argument("--box", type=box, metavar="X0,Y0,X1,Y1", help="the face by hand, in pixels")
    p.add_argument("--seed", type=int, default=0, help="another seed, another motion (default 0)")
    p.add_argument("--steps", type=positive(int), help="denoising steps of each window of motion")
    p.add_argument("--guidance", type=positive(float), help="how strongly motion follows the voice")
    p.add_argument(
        "--expression-scale",
        type=positive(float, or_zero=True),
        help="how strongly lips and face move (1)",
    )
    p.add_argument(
        "--pose-scale",
        type=positive(float, or_zero=True),
        help="how strongly the head moves (1; 0: still)",
    )
    p.add_argument(
        "--blink",
        type=positive(float, or_zero=True),
        metavar="RATE",
        help="blinks a minute (14; 0: none)",
    )
    p.add_argument(
        "--channel",
        default="auto",
        help="which channel speaks: left, right, a number, mix (default: found out)",
    )
    p.add_argument("--animator", type=Path, help="stage-1 weights (default: those that ship)")
    p.add_argument("--speech", type=Path, help="stage-2 weights trained with that animator")
    p.add_argument("--threads", type=positive(int), help="CPU threads (default: torch's choice)")
    return p


def box(text: str) -> "Box":
    """x0,y0,x1,y1 -> four numbers that span a rectangle."""
    try:
        x0, y0, x1, y1 = (float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text} is not four numbers x0,y0,x1,y1") from None
    if not (x0 < x1 and y0 < y1):
        raise argparse.ArgumentTypeError(f"{text} is empty: x0 < x1 and y0 < y1 must hold")
    return x0, y0, x1, y1


def positive(kind: type[int] | type[float], or_zero: bool = False) -> Callable[[str], int | float]:
    """A finite number above zero, or zero itself where that is allowed."""

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


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return guarded(lambda: print(_run(parser().parse_args(argv))))


def guarded(work: Callable[[], None], afterwards: str = "nothing was written") -> int:
    """Do a command's work: mistakes become one sentence, signals leave nothing half-made behind.

    `afterwards` is what somebody who stops it is told.
    """
    try:
        with _sigterm_unwinds():
            work()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"stopped: {afterwards}", file=sys.stderr)
        return INTERRUPTED
    except Terminated:
        print(f"terminated: {afterwards}", file=sys.stderr)
        return TERMINATED
    return 0


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


def _run(given: argparse.Namespace) -> "Report":
    import torch

    from mien.motion.controls import Controls
    from mien.motion.rollout import SamplingConfig
    from mien.pipeline import animate, load_models, refuse_output

    output = given.output or Path(f"{given.audio.stem}.mp4")
    refuse_output(output, (given.audio, given.portrait), given.overwrite)
    if given.threads:
        torch.set_num_threads(given.threads)
    sampling = _chosen(SamplingConfig, given)
    controls = _chosen(Controls, given)

    animator, speech = load_models(given.animator, given.speech)
    try:
        with progress_bar() as progress:
            return animate(
                given.audio,
                given.portrait,
                output,
                animator=animator,
                speech=speech,
                sampling=sampling,
                controls=controls,
                seed=given.seed,
                box=given.box,
                overwrite=given.overwrite,
                channel=given.channel,
                progress=progress,
            )
    except UserError as error:
        if _mixed_up(given.audio, given.portrait):
            raise UserError(
                f"{given.audio} is a picture and {given.portrait} a sound: "
                "the audio comes first, then the portrait"
            ) from error
        raise


def _chosen(kind: type[Settings], given: argparse.Namespace) -> Settings:
    """The settings: what the command line says of them, else their defaults."""
    said = {name: value for name, value in vars(given).items() if value is not None}
    return kind(**{f.name: said[f.name] for f in fields(kind) if f.name in said})  # pyright: ignore[reportArgumentType]


def _mixed_up(audio: Path, portrait: Path) -> bool:
    from mien.media import load_audio, load_picture

    try:
        load_picture(audio)
        load_audio(portrait)
    except UserError:
        return False
    return True


@contextmanager
def progress_bar() -> "Iterator[Progress]":
    """A bar of frames on stderr, shown where a person can watch it."""
    from tqdm import tqdm

    with tqdm(unit="frame", disable=None, leave=False) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield show


if __name__ == "__main__":
    sys.exit(main())
