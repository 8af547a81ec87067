"""Extract the motion of all clips of a manifest, as stage 2 does by itself before its first step.

python tools/extract_motion.py runs/stage1/last.ckpt DIR train.jsonl
"""

import argparse
import sys
from pathlib import Path

import torch

from mien.checkpoint import fingerprint, load_animator
from mien.data.datamodule import data_root, read_records
from mien.data.latents import extract_all
from mien.errors import UserError


def main() -> int:
    """Read the command line, write what is missing; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("animator", type=Path, help="stage-1 weights, .ckpt or .safetensors")
    parser.add_argument("root", type=Path, help="folder of clips")
    parser.add_argument("manifest", type=Path, help="manifest, here or in the folder of clips")
    parser.add_argument("--cache", type=Path, default=Path("runs/motion"), help="where it goes")
    given = parser.parse_args()
    try:
        root = data_root(given.root)
        records = read_records(root, given.manifest)
        animator = load_animator(given.animator)
        folder = given.cache / fingerprint(animator.state_dict())
        device = "cuda" if torch.cuda.is_available() else "cpu"
        extract_all(animator.to(device), records, root, folder)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{folder}: motion of {len(records)} clips")
    return 0


if __name__ == "__main__":
    sys.exit(main())
