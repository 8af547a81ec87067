#!/usr/bin/env python
"""Train the preset `small` from scratch, phase after phase: `make train-small DATA=DIR`.

python tools/train_small.py DATA -o runs/small [--portraits FOLDER] [--overlay tiny.yaml ...]
    [--more OPTION ...]

DATA is a data set with train.jsonl and valid.jsonl (`mien prepare` makes one). Portraits become
clips in DATA/made first. The same command resumes; each phase prints how many hours it took.
"""

import argparse
import sys
from pathlib import Path

from mien.command_line import STOPS, Parser, run_guarded
from mien.errors import UserError
from mien.make_pairs.command import main as make_pairs
from mien.recipe import MADE, Recipe


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = Parser(prog="tools/train_small.py", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("data", type=Path, help="the data set")
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/small"),
                        help="runs and weights (default runs/small)")  # fmt: skip
    parser.add_argument("--portraits", type=Path, help="pictures of people who were never filmed")
    parser.add_argument("--overlay", nargs="+", default=[], help="config files over every phase")
    parser.add_argument("--more", nargs=argparse.REMAINDER, default=[], help="options of mien fit")
    return run_guarded(lambda: run(parser.parse_args(argv)), "the same command resumes")


def run(given: argparse.Namespace) -> None:
    """Make pairs if portraits are given, then run or resume every phase.

    Raises:
        UserError: a phase could not be finished.
    """
    recipe = Recipe(given.data, given.output, tuple(given.overlay), tuple(given.more))
    made = given.data / MADE
    if given.portraits is not None:
        asked = [str(given.portraits), str(given.data), "-o", str(made), "--workers", "all"]
        status = make_pairs([*asked, "--meshes", str(recipe.meshes)])
        if status in STOPS:
            raise STOPS[status]
        if status:
            raise UserError("no pairs were made: see above")
    if not (made / "train.jsonl").is_file():
        raise UserError(f"no made pairs in {made}: give a folder of portraits with --portraits")
    animator, speech = recipe.run()
    print(
        f"{animator}\n{speech}\nmien infer AUDIO PORTRAIT --animator {animator} --speech {speech}"
    )


if __name__ == "__main__":
    sys.exit(main())
