"""`tools/reenact.py VIDEO PORTRAIT` and `mien reenact`: the command around mien.reenact."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mien.command_line import (
    Parser,
    add_video_options,
    positive,
    progress_bar,
    run_guarded,
    seed,
    settings_from,
    starting,
)
from mien.devices import AUTO
from mien.errors import UserError
from mien.paths import refuse_inputs, refuse_video

if TYPE_CHECKING:
    from mien.report import Report
    from mien.session import Session
    from mien.session.loki import LokiSession

TRANSFERS = "relative", "absolute", "same_person"  # mien.types.Transfer, without torch
SYSTEMS = "mien", "loki"
# Options of Loki alone.
OF_LOKI = "loki", "freeze_pose", "blinks", "seed", "steps", "guidance", "temperature"


def parser() -> Parser:
    """The arguments of `mien reenact`."""
    p = Parser(
        prog="mien reenact",
        description="Make a portrait move as the face of a video does, with the video's sound.",
    )
    p.add_argument("video", type=Path, help="the driver: a video that shows a face")
    add_video_options(p, named_after="portrait and the video")
    p.add_argument("--transfer", choices=TRANSFERS, default=TRANSFERS[0],
                   help="relative (default): the driver's difference from rest (loki: from its "
                   "usual head pose); absolute: the head also goes where the driver's is; "
                   "same_person: portrait and driver are one person, framed alike")  # fmt: skip
    p.add_argument("--system", choices=SYSTEMS, default=SYSTEMS[0],
                   help="mien (default): implicit motion, warped; loki: a face model's "
                   "coefficients, painted by diffusion")  # fmt: skip
    loki = p.add_argument_group("with --system loki")
    loki.add_argument(
        "--loki", type=Path, metavar="FILE", help="its weights (default: those that ship)"
    )
    loki.add_argument("--freeze-pose", action="store_true", default=None,
                      help="hold the portrait's own head pose")  # fmt: skip
    loki.add_argument("--blinks", type=Path, metavar="FILE",
                      help="0 (open) to 1 (shut), a line for each frame of 25 a second, instead of "
                      "the driver's blinks")  # fmt: skip
    loki.add_argument("--seed", type=seed, help="of the noise (default 0)")
    loki.add_argument(
        "--steps", type=positive(int), help="of the sampler (default: as in training)"
    )
    loki.add_argument("--guidance", type=positive(float), help="1: none (default: as in training)")
    loki.add_argument("--temperature", type=positive(float, or_zero=True),
                      help="standard deviation of the initial noise; 0: none, 1: as in training "
                      "(default: the one that the weights carry)")  # fmt: skip
    return p


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return run_guarded(lambda: print(_run(parser().parse_args(argv))))


def _run(given: argparse.Namespace) -> "Report":
    _refuse_options(given)
    given.output = given.output or Path(f"{given.portrait.stem}-{given.video.stem}.mp4")
    _refuse_inputs(given)
    import torch

    if given.threads:
        torch.set_num_threads(given.threads)
    return _by_loki(given) if given.system == "loki" else _by_animator(given)


@starting()
def _refuse_inputs(given: argparse.Namespace) -> None:
    """Check all files before the nets and what they need are imported.

    Raises:
        UserError: one of them cannot be used.
    """
    inputs = {"video": given.video, "picture": given.portrait}
    weights = {"stage-1 weights": given.animator, "Loki weights": given.loki}
    refuse_video(given.output, {**inputs, **weights}, given.overwrite)
    from mien.media import picture_size, probe_video

    checks = probe_video, picture_size
    refuse_inputs(given.video, given.portrait, checks, ("video", "portrait"))


def _refuse_options(given: argparse.Namespace) -> None:
    """Refuse options of the other system.

    Raises:
        UserError: there is one.
    """
    if given.system == "loki":
        if given.animator is not None:
            raise UserError("--animator is of the system mien: give Loki's weights with --loki")
        if given.engine != AUTO:
            raise UserError("--engine is of the system mien: Loki is rendered by torch")
        return
    wrong = [name for name in OF_LOKI if getattr(given, name) is not None]
    if wrong:
        raise UserError(f"--{wrong[0].replace('_', '-')} needs --system loki")


@starting()
def _session(given: argparse.Namespace) -> "Session":
    from mien.checkpoint import default_weights, load_animator
    from mien.devices import choose_device
    from mien.session import Session

    animator = load_animator(given.animator or default_weights()[0])
    animator = animator.to(choose_device(given.device))
    return Session(animator, precision=given.precision, engine=given.engine)


@starting()
def _loki_session(given: argparse.Namespace) -> "LokiSession":
    from mien.session.loki import LokiSession

    trained = LokiSession.load(given.loki, given.device, given.precision)
    return LokiSession(trained.net, settings_from(trained.sampling, given), given.precision)


def _by_animator(given: argparse.Namespace) -> "Report":
    session = _session(given)
    from mien.motion.controls import Controls
    from mien.pipeline import reenact

    with progress_bar() as progress:
        return reenact(
            given.video,
            given.portrait,
            given.output,
            session=session,
            transfer=given.transfer,
            controls=settings_from(Controls(), given),
            box=given.box,
            overwrite=given.overwrite,
            progress=progress,
        )


def _by_loki(given: argparse.Namespace) -> "Report":
    from mien.loki.driving import LokiControls, read_blinks
    from mien.pipeline import reenact_by_loki

    given.blinks = given.blinks and read_blinks(given.blinks)
    session = _loki_session(given)
    with progress_bar() as progress:
        return reenact_by_loki(
            given.video,
            given.portrait,
            given.output,
            session=session,
            transfer=given.transfer,
            controls=settings_from(LokiControls(), given),
            seed=given.seed or 0,
            box=given.box,
            overwrite=given.overwrite,
            progress=progress,
        )


if __name__ == "__main__":
    sys.exit(main())
