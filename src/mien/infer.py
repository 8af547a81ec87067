"""`tools/infer.py audio.wav portrait.png` and `mien infer`: the command around mien.animate."""

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
    settings_from,
)
from mien.errors import UserError

if TYPE_CHECKING:
    from mien.report import Report


def parser() -> Parser:
    """The arguments of `mien infer`."""
    p = Parser(
        prog="mien infer",
        description="Make a portrait say what an audio file says, as an mp4 with sound.",
    )
    p.add_argument("audio", type=Path, help="speech: wav, mp3, m4a, flac, the sound of a video ...")
    add_video_options(p, named_after="audio")
    p.add_argument("--seed", type=int, default=0, help="random seed of the motion (default 0)")
    p.add_argument("--steps", type=positive(int), help="denoising steps per window of motion")
    p.add_argument("--guidance", type=positive(float),
                   help="scale of classifier-free guidance by the audio (1: none)")  # fmt: skip
    p.add_argument("--blink", type=positive(float, or_zero=True), metavar="RATE",
                   help="blinks per minute (14; 0: none)")  # fmt: skip
    p.add_argument(
        "--channel",
        default="auto",
        help="channel with the speech: left, right, a number, mix (default: detected)",
    )
    p.add_argument("--speech", type=Path, help="stage-2 weights trained with that animator")
    return p


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return run_guarded(lambda: print(_run(parser().parse_args(argv))))


def _run(given: argparse.Namespace) -> "Report":
    import torch

    from mien.motion.controls import Controls
    from mien.motion.rollout import SamplingConfig
    from mien.pipeline import animate, refuse_output
    from mien.session import Session

    output = given.output or Path(f"{given.audio.stem}.mp4")
    refuse_output(output, (given.audio, given.portrait), given.overwrite)
    if given.threads:
        torch.set_num_threads(given.threads)
    sampling, controls = settings_from(SamplingConfig, given), settings_from(Controls, given)
    session = Session.load(given.animator, given.speech, given.device, given.precision)
    try:
        with progress_bar() as progress:
            return animate(
                given.audio,
                given.portrait,
                output,
                session=session,
                sampling=sampling,
                controls=controls,
                seed=given.seed,
                box=given.box,
                overwrite=given.overwrite,
                channel=given.channel,
                progress=progress,
            )
    except UserError as error:
        if _swapped(given.audio, given.portrait):
            raise UserError(
                f"{given.audio} is a picture and {given.portrait} an audio file: "
                "the audio comes first, then the portrait"
            ) from error
        raise


def _swapped(audio: Path, portrait: Path) -> bool:
    from mien.media import load_audio, load_picture

    try:
        load_picture(audio)
        load_audio(portrait)
    except UserError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
