"""Measure a checkpoint, or a video.

    python tools/evaluate.py reenact --root CLIPS --manifest FILE [--animator FILE] [--json FILE]
    python tools/evaluate.py sync VIDEO [AUDIO] [--json FILE]

`reenact` redraws every clip from its own first frame and stands beside copying that frame. `sync`
correlates mouth opening with loudness and stands beside the same sound reversed.
"""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from mien.infer import Parser, guarded

COLUMNS = (
    "psnr",
    "copy_psnr",
    "ssim",
    "copy_ssim",
    "l1",
    "copy_l1",
    "mouth",
    "copy_mouth",
    "rest_psnr",
)


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = Parser(description="Measure a checkpoint, or a video.")
    commands = parser.add_subparsers(required=True, metavar="reenact|sync")

    reenact = commands.add_parser("reenact", help="self-reenactment beside copying the source")
    reenact.add_argument(
        "--root", type=Path, required=True, help="folder that clip paths start from"
    )
    reenact.add_argument("--manifest", type=Path, required=True, help="JSONL, one clip a line")
    reenact.add_argument("--animator", type=Path, help="stage-1 weights (default: those that ship)")
    reenact.add_argument("--stride", type=int, default=5, help="score each n-th frame (default 5)")
    reenact.set_defaults(work=score_reenactment)

    sync = commands.add_parser("sync", help="do the lips follow the voice")
    sync.add_argument("video", type=Path)
    sync.add_argument("audio", type=Path, nargs="?", help="default: the video's own sound")
    sync.set_defaults(work=score_sync)

    for command in (reenact, sync):
        command.add_argument("--json", type=Path, help="also write the figures here")

    def work() -> None:
        given = parser.parse_args(argv)
        given.work(given)

    return guarded(work)


def score_reenactment(given: argparse.Namespace) -> None:
    """Print a table: clips, people, and the means over both."""
    from mien.checkpoint import default_weights, load_animator
    from mien.data.datamodule import read_records
    from mien.evaluation import mean_by_identity, mean_of, reenact_clips

    records = read_records(given.root, given.manifest)
    animator = load_animator(given.animator or default_weights()[0])
    print(
        f"{'':28}{'':>6}"
        + "".join(f"{name:>11}" for name in COLUMNS)
        + f"{'gain':>8}{'mouth/copy':>12}"
    )
    scored = []
    for record, score in reenact_clips(animator, records, given.root, given.stride):
        scored.append((record, score))
        print_row(Path(record.path).name, score, 1)

    people = mean_by_identity(scored)
    print("\npeople")
    for identity, score in people.items():
        print_row(identity, score, sum(record.identity == identity for record, _ in scored))
    means = {
        "mean over clips": mean_of([score for _, score in scored]),
        "mean over people": mean_of(list(people.values())),
    }
    print()
    for name, score in means.items():
        print_row(name, score, len(scored) if "clips" in name else len(people))
    write_json(
        given.json,
        {
            "clips": {record.path: asdict(score) for record, score in scored},
            "people": {identity: asdict(score) for identity, score in people.items()},
            "means": {name: asdict(score) for name, score in means.items()},
        },
    )


def print_row(name: str, score, count: int) -> None:
    """One line of the table; `score` is a Reenactment."""
    figures = "".join(f"{getattr(score, column):>11.4f}" for column in COLUMNS)
    print(
        f"{name:28.28}{count:>6}{figures}{score.gain:>8.2f}{score.mouth_share:>12.3f}", flush=True
    )


def score_sync(given: argparse.Namespace) -> None:
    """Print the correlation, its control, and the lag at which it is best."""
    from mien.evaluation import video_sync

    score = video_sync(given.video, given.audio)
    print(f"correlation of mouth opening with loudness   {score.correlation:+.3f}")
    print(f"the same with the sound reversed             {score.reversed:+.3f}")
    print(
        f"best lag                                     {score.lag:+d} frames ({score.at_lag:+.3f})"
    )
    write_json(given.json, asdict(score))


def write_json(path: Path | None, figures: dict) -> None:
    """Keep the figures for a later comparison."""
    if path is not None:
        path.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
