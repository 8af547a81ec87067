"""`mien drive-arkit`: a portrait moves as ARKit curves say."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mien.command_line import Parser, add_video_options, positive, progress_bar, run_guarded
from mien.paths import refuse_inputs, refuse_video

if TYPE_CHECKING:
    from mien.report import Report


def parser() -> Parser:
    """The arguments of `mien drive-arkit`."""
    p = Parser(
        prog="mien drive-arkit",
        description="Make a portrait move as ARKit curves say (Live Link Face CSV, or npz of mien "
        "export-motion).",
    )
    p.add_argument("curves", type=Path, help="csv or npz")
    add_video_options(p, named_after="portrait and the curves")
    p.add_argument("--fps", type=positive(float),
                   help="rows a second of a CSV (default: by its timecodes)")  # fmt: skip
    p.add_argument("--audio", type=Path, help="sound of the video (default: none)")
    return p


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return run_guarded(lambda: print(_run(parser().parse_args(argv))))


def _run(given: argparse.Namespace) -> "Report":
    output = given.output or Path(f"{given.portrait.stem}-{given.curves.stem}.mp4")
    inputs = {"curves": given.curves, "picture": given.portrait, "sound": given.audio}
    refuse_video(output, {**inputs, "stage-1 weights": given.animator}, given.overwrite)
    from dataclasses import replace

    import torch

    from mien.checkpoint import default_weights, load_animator
    from mien.devices import choose_device
    from mien.face_model.live_link import load_curves
    from mien.face_model.parametric import FaceModel
    from mien.media import picture_size, read_sound
    from mien.pipeline import DRIVEN_PARTS, write
    from mien.report import Stopwatch
    from mien.session import FrameStream, Session
    from mien.session.curves import curve_motion
    from mien.session.guiding import guides_for
    from mien.types import FPS

    if given.threads:
        torch.set_num_threads(given.threads)
    checks = load_curves, picture_size
    curves = refuse_inputs(given.curves, given.portrait, checks, ("curves", "portrait"))
    curves = replace(curves, fps=given.fps or curves.fps).at_rate(FPS)
    curves = curves.scaled(given.expression_scale, given.pose_scale)
    sound = read_sound(given.audio) if given.audio else None
    animator = load_animator(given.animator or default_weights()[0])
    animator = animator.to(choose_device(given.device))
    session = Session(animator, precision=given.precision, engine=given.engine)
    watch = Stopwatch(dict.fromkeys(DRIVEN_PARTS, 0.0), session.device)
    portrait = session.prepare(given.portrait, given.box, watch)
    motion = curve_motion(portrait, curves, FaceModel.load())
    frames = session.draw(portrait, motion, guides_for(portrait), watch)
    stream = FrameStream(frames, len(curves), sound, portrait.notes, watch)
    with progress_bar() as progress:
        return write(stream, output, session, None, progress)


if __name__ == "__main__":
    sys.exit(main())
