"""`tools/evaluate.py` and `mien evaluate`: five evaluations, each with a table, JSON and a page."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from mien.command_line import Parser, positive, run_guarded, seed
from mien.devices import add_device_options
from mien.evaluation.findings import Findings, Output
from mien.evaluation.gather import crossed, followed, reenactment, spoken, synced
from mien.evaluation.page import page_of
from mien.evaluation.systems import SYSTEMS


def parser() -> Parser:
    """The arguments of `mien evaluate`."""
    p = Parser(prog="mien evaluate", description="Measure checkpoints on real clips, or a video.")
    commands = p.add_subparsers(required=True, metavar="speech|cross|reenact|follow|sync")

    speech = commands.add_parser("speech", help="lips generated from audio against the real lips")
    cross = commands.add_parser("cross", help="portraits driven by other people's clips")
    reenact = commands.add_parser("reenact", help="self-reenactment against copying the source")
    follow = commands.add_parser("follow", help="head pose and expression against the driver's")
    sync = commands.add_parser("sync", help="correlation of a video's lips and loudness")
    for command, work in (
        (speech, spoken),
        (cross, crossed),
        (reenact, reenactment),
        (follow, followed),
    ):
        command.add_argument("--root", type=Path, required=True,
                             help="folder that clip paths start from")  # fmt: skip
        command.add_argument("--manifest", type=Path, required=True, help="JSONL, one clip a line")
        command.add_argument("--animator", type=Path,
                             help="stage-1 weights (default: the shipped ones)")  # fmt: skip
        add_device_options(command)
        command.set_defaults(work=work)

    speech.add_argument("--speech", type=Path, help="stage-2 weights trained with that animator")
    speech.add_argument("--offsets", type=Path, help="JSON or TSV: clip, frames its sound lags")
    speech.add_argument("--seconds", type=positive(float), help="from the start of each clip (all)")
    for command, what in ((speech, "the motion"), (follow, "Loki's noise")):
        command.add_argument("--seed", type=seed, default=0, help=f"of {what} (default 0)")
    cross.add_argument("--portraits", type=Path, nargs="+", required=True,
                       help="pictures, or folders of them")  # fmt: skip
    cross.add_argument("--second-landmarks", type=Path, metavar="FILE",
                       help="MediaPipe's face_landmarker.task, to score lips too")  # fmt: skip
    cross.add_argument("--seconds", type=positive(float), default=4.0,
                       help="from the start of each clip (default 4)")  # fmt: skip
    reenact.add_argument("--stride", type=positive(int), default=5,
                         help="score each n-th frame (default 5)")  # fmt: skip
    follow.add_argument("--system", choices=SYSTEMS, nargs="+", default=["mien"],
                        help="what draws the portraits (default: mien)")  # fmt: skip
    follow.add_argument("--loki", type=Path, help="weights of the system loki (default: shipped)")
    follow.add_argument("--portraits", type=Path, nargs="+",
                        help="pictures, or folders of them, for cross identity (default: the "
                        "first frame of the next person's clip)")  # fmt: skip
    follow.add_argument("--frames", type=positive(int), default=16,
                        help="from the start of each clip (default 16)")  # fmt: skip
    sync.add_argument("video", type=Path)
    sync.add_argument("audio", type=Path, nargs="?", help="default: the video's own audio")
    sync.set_defaults(work=synced)
    for command in (speech, cross, reenact, follow, sync):
        command.add_argument("-o", "--output", type=Path, metavar="DIR",
                             help="also write scores.json and index.html here")  # fmt: skip
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return run_guarded(lambda: run(parser().parse_args(argv)), "no scores were written")


def run(given: argparse.Namespace) -> None:
    """Evaluate, print the tables, and write them if asked.

    Raises:
        UserError: an input or the output cannot be used.
    """
    output = Output(given.output)
    findings: Findings = given.work(given, output)
    print(findings.text())
    output.write(findings, page_of(findings))
