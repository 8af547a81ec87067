#!/usr/bin/env python
"""Teeth, gums, tongue and cavity of ICT-FaceKit's mean face: src/mien/assets/mouth_model.npz.

    python tools/make_mouth_model.py ict_face.npz OUT.npz

`ict_face.npz` holds ICT-FaceKit's light model (MIT) as arrays: neutral (n 3, centimetres), faces,
expression_names, expression_deltas, region_names, region_ranges and landmarks68.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

from mien.command_line import run_guarded
from mien.errors import UserError
from mien.face_model.mouth_reduction import reduce_model


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    p = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    p.add_argument("model", type=Path)
    p.add_argument("output", type=Path)
    given = p.parse_args(argv)
    return run_guarded(lambda: _run(given.model, given.output))


def _run(model: Path, output: Path) -> None:
    if not model.is_file():
        raise UserError(f"{model}: no such file; give ICT-FaceKit's model as .npz")
    with np.load(model) as kept:
        mouth = reduce_model(kept)
    mouth.save(output)
    n, k = len(mouth.vertices), len(mouth.triangles)
    print(f"{output}: {n} vertices, {k} triangles, {output.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    sys.exit(main())
