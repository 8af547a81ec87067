"""`tools/infer.py audio.wav portrait.png` and `mien infer`: the command around mien.animate."""

import argparse
import functools
import sys
from collections.abc import Callable
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
    from mien.face import Box
    from mien.report import Report
    from mien.session import Portrait, Session

SAMPLERS = "multistep", "ddim", "euler"  # those of SamplingConfig, without torch


def parser() -> Parser:
    """The arguments of `mien infer`."""
    p = Parser(
        prog="mien infer",
        description="Make a portrait say what an audio file says, as an mp4 with sound.",
    )
    p.add_argument("audio", type=Path, nargs="?",
                   help="speech: wav, mp3, m4a, flac, the sound of a video ...")  # fmt: skip
    add_video_options(p, named_after="audio", needs_portrait=False)
    p.add_argument("--jobs", type=Path, metavar="FILE",
                   help="make many videos, the rows of a CSV file with the columns audio, portrait "
                   "and output, and where wanted seed, box, channel, start and end; relative paths "
                   "start from the working directory; outputs that exist are skipped")  # fmt: skip
    seconds = positive(float, or_zero=True)
    p.add_argument("--start", type=seconds, metavar="S", default=0.0,
                   help="second of the audio at which the video starts (0)")  # fmt: skip
    p.add_argument("--end", type=seconds, metavar="S",
                   help="second of the audio at which it ends (its end)")  # fmt: skip
    p.add_argument("--seed", type=seed, default=0, help="random seed of the motion (default 0)")
    p.add_argument("--steps", type=positive(int),
                   help="denoising steps per window of motion (as in training)")  # fmt: skip
    p.add_argument("--guidance", type=positive(float),
                   help="scale of classifier-free guidance by the audio (as in training; "
                   "1: none)")  # fmt: skip
    p.add_argument("--sampler", choices=SAMPLERS,
                   help="of the motion (as in training: of the weights that ship multistep; "
                   "ddim needs 10 steps to be as good)")  # fmt: skip
    p.add_argument("--blink", type=positive(float, or_zero=True), metavar="RATE",
                   help="blinks per minute (14; 0: none)")  # fmt: skip
    p.add_argument("--still-head", action="store_true",
                   help="move the mouth alone, which takes a part of the time")  # fmt: skip
    p.add_argument(
        "--channel",
        default="auto",
        help="channel with the speech: left, right, a number, mix (default: detected)",
    )
    p.add_argument("--speech", type=Path, help="stage-2 weights trained with that animator")
    return p


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    arguments = sys.argv[1:] if argv is None else argv
    kept = any(argument.startswith("--jobs") for argument in arguments)
    return run_guarded(
        lambda: _run(parser().parse_args(arguments)),
        "finished outputs are kept" if kept else "nothing was written",
    )


def _run(given: argparse.Namespace) -> None:
    for name in ("pose_scale", "blink"):
        if given.still_head and getattr(given, name):
            option = name.replace("_", "-")
            raise UserError(f"--still-head holds head and eyes: leave out --{option}, or set it 0")
    if given.still_head and given.engine not in (AUTO, "torch"):
        raise UserError("--still-head is rendered by torch: leave out --engine")
    if given.jobs is not None:
        return _run_jobs(given)
    if missing := [name for name in ("audio", "portrait") if getattr(given, name) is None]:
        raise UserError(f"{' and '.join(missing)} must be given (--help shows the use)")
    output = given.output or Path(f"{given.audio.stem}.mp4")
    with starting():
        _refuse_inputs(given, output)
        session = _session(given)
    print(_made(given, output, session))


def _refuse_inputs(given: argparse.Namespace, output: Path) -> None:
    """Check all files before the nets and what they need are imported, which takes seconds.

    Raises:
        UserError: one of them cannot be used.
    """
    weights = {"stage-1 weights": given.animator, "stage-2 weights": given.speech}
    inputs = {"sound": given.audio, "picture": given.portrait, **weights}
    refuse_video(output, inputs, given.overwrite)
    from mien.media import picture_size, refuse_sound

    checks = refuse_sound, picture_size
    refuse_inputs(given.audio, given.portrait, checks, ("audio", "portrait"))


def _run_jobs(given: argparse.Namespace) -> None:
    """The rows of a file, with nets loaded once and the last row's portrait kept."""
    from mien.jobs import Job, read_jobs, run_jobs

    if given.audio or given.output:
        raise UserError("--jobs names audio, portraits and outputs in its file: give no others")
    jobs = read_jobs(given.jobs)
    with starting():
        session = _session(given)
    prepared = functools.lru_cache(maxsize=1)(session.prepare)

    def make(job: Job) -> str:
        row = argparse.Namespace(**{**vars(given), **job.values})
        _refuse_inputs(row, job.output)
        report = _made(row, job.output, session, prepared)
        return f"{report.path} ({report.seconds:.1f} s, {report.work_per_second:.2f} s per second)"

    run_jobs(jobs, make, given.overwrite)


def _session(given: argparse.Namespace) -> "Session":
    import torch

    from mien.session import Session

    if given.threads:
        torch.set_num_threads(given.threads)
    return Session.load(given.animator, given.speech, given.device, given.precision, given.engine)


def _made(
    given: argparse.Namespace,
    output: Path,
    session: "Session",
    prepare: "Callable[[Path, Box | None], Portrait] | None" = None,
) -> "Report":
    """One video; the portrait may be prepared by another function than the session's."""
    from mien.motion.controls import Controls
    from mien.pipeline import animate

    with progress_bar() as progress:
        return animate(
            given.audio,
            prepare(given.portrait, given.box) if prepare else given.portrait,
            output,
            session=session,
            sampling=settings_from(session.speech.sampling, given),
            controls=settings_from(Controls(), given),
            seed=given.seed,
            box=given.box,
            overwrite=given.overwrite,
            channel=given.channel,
            start=given.start,
            end=given.end,
            still_head=given.still_head,
            progress=progress,
        )


if __name__ == "__main__":
    sys.exit(main())
