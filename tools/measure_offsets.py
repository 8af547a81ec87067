#!/usr/bin/env python
"""The standard deviation of expression offsets over fitted footage: OFFSET_DEVIATION.

    python tools/measure_offsets.py CLIP [CLIP ...]

Fits every clip and prints the root mean square of what expression and gaze add to the skin of the
face (region `face`), over its vertices, all coordinates and frames, each clip counting alike.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from tqdm import tqdm

from mien.command_line import run_guarded
from mien.face_model.clips import fit_file
from mien.face_model.parametric import FaceModel
from mien.face_model.tracking import FaceTracker


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    p = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    p.add_argument("clips", type=Path, nargs="+")
    given = p.parse_args(argv)
    return run_guarded(lambda: _run(given.clips))


def _run(clips: list[Path]) -> None:
    model, tracker = FaceModel.load(), FaceTracker()
    skin = model.vertices_of("face")
    squares, frames = [], 0
    for clip in tqdm(clips, unit="clip", disable=None):
        found = fit_file(clip, tracker, model)
        offsets = model.offsets(found.expression, found.eyes)[:, skin]
        squares.append(float(np.square(offsets).mean()))
        frames += len(found)
    each = np.sqrt(squares)
    print(
        f"{np.sqrt(np.mean(squares)):.4f} cm over {len(clips)} clips, {frames} frames; "
        f"single clips from {each.min():.4f} to {each.max():.4f} cm"
    )


if __name__ == "__main__":
    sys.exit(main())
