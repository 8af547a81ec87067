#!/usr/bin/env python
"""Export a training checkpoint as shipped weights: EMA weights in float16, safetensors.

python tools/export_weights.py runs/stage1/last.ckpt animator.safetensors
"""

import argparse
import sys
from pathlib import Path

from mien.errors import UserError
from mien.kinds import read_weights, save_weights, to_float16


def main() -> int:
    """Read the command line, write the file; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("checkpoint", type=Path, help="a .ckpt of either stage")
    parser.add_argument("output", type=Path, help="the .safetensors to write")
    given = parser.parse_args()
    try:
        weights = to_float16(read_weights(given.checkpoint))
        save_weights(given.output, weights)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    megabytes = given.output.stat().st_size / 1e6
    print(f"{given.output}: {weights.kind} {weights.fingerprint}, {megabytes:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
