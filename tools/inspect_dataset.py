#!/usr/bin/env python
"""A prepared data set on one HTML page: python tools/inspect_dataset.py DATASET [-o page.html].

Counts, hours, people, a histogram of each measure, contact sheets of accepted and rejected clips.
"""

import sys
from pathlib import Path

from mien.command_line import Parser, positive, run_guarded
from mien.prepare.inspection import write_page


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = Parser(description="A prepared data set on one page.")
    parser.add_argument("dataset", type=Path, help="folder that tools/prepare.py wrote")
    parser.add_argument("-o", "--output", type=Path, help="page (default: DATASET/inspection.html)")
    parser.add_argument("--strips", type=positive(int), default=120, help="for each verdict")

    def work() -> None:
        given = parser.parse_args(argv)
        output = given.output or given.dataset / "inspection.html"
        write_page(given.dataset, output, given.strips)
        print(output)

    return run_guarded(work)


if __name__ == "__main__":
    sys.exit(main())
