#!/usr/bin/env python
"""Draw clips of faces that speak with a synthetic voice, to try every config without footage.

python tools/make_toy_clips.py toy
lightning fit --config stage1.yaml --config tiny.yaml --data.root toy
"""

import argparse
import sys
from pathlib import Path

from mien.data.drawn import write_clips
from mien.errors import UserError


def main() -> int:
    """Read the command line, write the clips; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path, help="output folder of clips and manifests")
    parser.add_argument("--people", type=int, default=4, help="drawn people for training")
    parser.add_argument("--valid-people", type=int, default=2, help="other people for validation")
    parser.add_argument("--clips", type=int, default=2, help="clips of each")
    parser.add_argument("--frames", type=int, default=75, help="frames of each clip, 25 a second")
    parser.add_argument("--size", type=int, default=64, help="side of the pictures in pixels")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    try:
        for name, people, seed in (
            ("train", given.people, given.seed),
            ("valid", given.valid_people, given.seed + 1),
        ):
            write_clips(given.folder, name, people, given.clips, given.frames, given.size, seed)
            print(f"{given.folder / name}.jsonl: {people * given.clips} clips of {people} people")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
