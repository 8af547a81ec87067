#!/usr/bin/env python
"""Benchmark of data preparation: speed, and time per stage.

    python tools/benchmark_prepare.py FOOTAGE [--videos 40] [--set people=faces]

One process prepares an even sample of a folder's videos into a temporary folder. Workers are
independent, so `--workers N` is N times as fast, as long as there are cores and the disk keeps up.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from mien.command_line import Parser, positive, run_guarded

GOAL_HOURS, GOAL_CORES = 380, 64  # the paper's footage on one large machine


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = Parser(description="How fast is footage prepared, and where does the time go?")
    parser.add_argument("footage", type=Path, help="a folder with videos")
    parser.add_argument("--videos", type=positive(int), default=40, help="how many (default 40)")
    parser.add_argument("--config", default="prepare.yaml", help="settings of the preparation")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="single settings")
    return run_guarded(lambda: measure(parser.parse_args(argv)))


def measure(given: argparse.Namespace) -> None:
    """Print seconds of footage per second of computation, and each stage's share."""
    import torch

    from mien.errors import UserError
    from mien.prepare.collections import clip_names, list_sources
    from mien.prepare.command import OWN, read_settings
    from mien.prepare.cutting import SourceCutter
    from mien.report import machine
    from mien.types import FPS

    torch.set_num_threads(1)
    settings = read_settings(given.config, given.set)
    listed = list_sources(given.footage, OWN)
    step = max(1, len(listed.sources) // given.videos)
    sources = listed.sources[::step][: given.videos]
    names = clip_names(sources)
    with tempfile.TemporaryDirectory() as folder:
        work = SourceCutter(given.footage, Path(folder), settings)
        begin, frames, clips = time.perf_counter(), 0, 0
        for source in sources:
            outcome = work(source, names[source.path])
            frames += sum(part.frames for part in outcome.parts)
            clips += sum(not part.reasons for part in outcome.parts)
        seconds = time.perf_counter() - begin
    footage = frames / FPS
    if not frames:
        raise UserError(f"no face was seen in {len(sources)} videos of {given.footage}")
    print(f"machine  {machine()}, one process, one thread")
    print(f"footage  {len(sources)} videos, {footage:.0f} s with faces, {clips} clips")
    print(f"speed    {footage / seconds:.2f} s of footage per second and core")
    hours = GOAL_HOURS / (footage / seconds * GOAL_CORES)
    print(f"so       {GOAL_HOURS} hours take {hours:.1f} h on {GOAL_CORES} such cores\n")
    for part, spent in sorted(work.stopwatch.seconds.items(), key=lambda item: -item[1]):
        print(f"{part:16}{1e3 * spent / frames:8.2f} ms a frame{100 * spent / seconds:6.0f} %")


if __name__ == "__main__":
    sys.exit(main())
