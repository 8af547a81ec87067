#!/usr/bin/env python
"""Extract the motion latents of a manifest's clips, as stage 2 does before its first step.

python tools/extract_motion.py runs/stage1/last.ckpt DIR train.jsonl [--workers 8]
"""

import sys
from pathlib import Path

from mien.command_line import Parser, run_guarded
from mien.prepare.engine import ENGINES, workers_of


def main(argv: list[str] | None = None) -> int:
    """Read the command line, write what is missing; returns the exit status."""
    parser = Parser(description="Extract the motion of all clips of a manifest.")
    parser.add_argument("animator", type=Path, help="stage-1 weights, .ckpt or .safetensors")
    parser.add_argument("root", help="folder of clips, or an address such as s3://bucket/clips")
    parser.add_argument("manifest", type=Path, help="manifest, here or in the folder of clips")
    parser.add_argument("--cache", default="runs/motion", help="folder or address for the motion")
    parser.add_argument("--workers", type=workers_of, metavar="N|all", help="default: 1")
    parser.add_argument("--engine", choices=ENGINES, default=ENGINES[0],
                        help="ray: on the cluster that RAY_ADDRESS names")  # fmt: skip

    def work() -> None:
        from mien.data.records import data_root, read_records
        from mien.data.store import Store
        from mien.errors import UserError
        from mien.prepare.motion import extract_motion

        given = parser.parse_args(argv)
        root = data_root(given.root)
        records = [record for record in read_records(root, given.manifest) if record.sound]
        folder, problems = extract_motion(
            given.animator, records, root, Store(given.cache), given.workers, given.engine
        )
        print(f"{folder}: motion of {len(records) - len(problems)} clips")
        if problems:
            lines = "\n".join(f"  {path}: {problem}" for path, problem in problems.items())
            raise UserError(f"{len(problems)} clips failed:\n{lines}")

    return run_guarded(work, "the same command resumes")


if __name__ == "__main__":
    sys.exit(main())
