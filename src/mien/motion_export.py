"""`mien export-motion`: ARKit curves of a video, or of speech that a portrait would say.

Curves of a video share movements: on rendered faces that move one axis alone, another axis moves
too, by 0.34 of it in the median (docs/experiments.md, "Fitting the face: what is recovered").
"""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mien.command_line import Parser, box, progress_bar, run_guarded, seed
from mien.devices import add_device_options
from mien.errors import UserError
from mien.paths import refuse_file

if TYPE_CHECKING:
    from mien.face_model.arkit import ArkitCurves

SUFFIXES = ".csv", ".npz"
RATES = 25, 60


def parser() -> Parser:
    """The arguments of `mien export-motion`."""
    p = Parser(
        prog="mien export-motion",
        description="Write ARKit's 52 curves, head and eyes as Live Link Face CSV or npz: of a "
        "video's face, or of generated speech where an audio file and a portrait are given. "
        "Curves of a video share movements: where one axis moves alone, another follows by a third "
        "of it.",
    )
    p.add_argument("source", type=Path, help="a video, a file of mien fit-face, or an audio file")
    p.add_argument("portrait", type=Path, nargs="?", 
                   help="a picture of the speaker: the motion is then generated from the audio "
                   "of SOURCE, also where that is a video")  # fmt: skip
    p.add_argument("-o", "--output", type=Path, required=True, help="csv or npz to write")
    p.add_argument("--overwrite", action="store_true", help="replace the output if it exists")
    p.add_argument("--fps", type=int, choices=RATES, default=RATES[1], help="rows per second (60)")
    p.add_argument("--seed", type=seed, default=0, help="random seed of generated motion (0)")
    p.add_argument("--box", type=box, metavar="X0,Y0,X1,Y1", help="the portrait's face, in pixels")
    p.add_argument("--animator", type=Path, help="stage-1 weights (default: those that ship)")
    p.add_argument("--speech", type=Path, help="stage-2 weights (default: those that ship)")
    add_device_options(p)
    return p


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return run_guarded(lambda: print(_run(parser().parse_args(argv))))


def _run(given: argparse.Namespace) -> str:
    from mien.face_model.live_link import save_curves

    inputs = given.source, *((given.portrait,) if given.portrait else ())
    refuse_file(given.output, SUFFIXES, inputs, given.overwrite)
    curves = (_of_clip(given) if given.portrait is None else _of_speech(given)).at_rate(given.fps)
    save_curves(curves, given.output)
    return f"{given.output}: {len(curves)} rows, {given.fps} per second"


def _of_clip(given: argparse.Namespace) -> "ArkitCurves":
    from mien.face_model.arkit import curves_of
    from mien.face_model.clips import fit_file
    from mien.face_model.coefficients import FaceCoefficients
    from mien.face_model.parametric import FaceModel
    from mien.media.video import NoVideoStream

    if given.source.suffix.lower() == ".npz":
        model, found = FaceModel.load(), FaceCoefficients.load(given.source)
        model.refuse_other_coefficients(found, str(given.source))
        return curves_of(model, found)
    try:
        with progress_bar() as show:
            found = fit_file(given.source, progress=lambda done: show(done, 0))
    except NoVideoStream as error:
        raise UserError(
            f"{given.source} has no video stream: for the motion of its speech, name a portrait "
            "after it"
        ) from error
    return curves_of(FaceModel.load(), found)


def _of_speech(given: argparse.Namespace) -> "ArkitCurves":
    from mien.face_model.parametric import FaceModel
    from mien.session import Session
    from mien.session.curves import curves_of_speech

    session = Session.load(given.animator, given.speech, given.device, given.precision)
    portrait = session.prepare(given.portrait, given.box)
    motion = session.generate(portrait, session.encode(given.source), seed=given.seed)
    return curves_of_speech(portrait, motion, FaceModel.load())


if __name__ == "__main__":
    sys.exit(main())
