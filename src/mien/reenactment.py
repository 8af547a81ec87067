"""`tools/reenact.py VIDEO PORTRAIT` and `mien reenact`: the command around mien.reenact."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mien.command_line import Parser, add_video_options, progress_bar, run_guarded, settings_from

if TYPE_CHECKING:
    from mien.report import Report

TRANSFERS = "relative", "absolute", "same_person"  # mien.session.driving.Transfer, without torch


def parser() -> Parser:
    """The arguments of `mien reenact`."""
    p = Parser(
        prog="mien reenact",
        description="Make a portrait move as the face of a video does, with the video's sound.",
    )
    p.add_argument("video", type=Path, help="the driver: a video that shows a face")
    add_video_options(p, named_after="portrait and the video")
    p.add_argument("--transfer", choices=TRANSFERS, default=TRANSFERS[0],
                   help="relative (default): the driver's difference from rest; absolute: the "
                   "head also goes where the driver's is; same_person: portrait and driver are one "
                   "person, framed alike")  # fmt: skip
    return p


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return run_guarded(lambda: print(_run(parser().parse_args(argv))))


def _run(given: argparse.Namespace) -> "Report":
    import torch

    from mien.checkpoint import default_weights, load_animator
    from mien.devices import choose_device
    from mien.motion.controls import Controls
    from mien.pipeline import reenact, refuse_output
    from mien.session import Session

    output = given.output or Path(f"{given.portrait.stem}-{given.video.stem}.mp4")
    refuse_output(output, (given.video, given.portrait), given.overwrite)
    if given.threads:
        torch.set_num_threads(given.threads)
    animator = load_animator(given.animator or default_weights()[0])
    session = Session(animator.to(choose_device(given.device)), precision=given.precision)
    with progress_bar() as progress:
        return reenact(
            given.video,
            given.portrait,
            output,
            session=session,
            transfer=given.transfer,
            controls=settings_from(Controls, given),
            box=given.box,
            overwrite=given.overwrite,
            progress=progress,
        )


if __name__ == "__main__":
    sys.exit(main())
