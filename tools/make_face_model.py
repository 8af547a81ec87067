#!/usr/bin/env python
"""ICT-FaceKit's light model as mien's face model: src/mien/assets/face_model.npz.

    python tools/make_face_model.py ict_face.npz OUT.npz [--full]

`ict_face.npz` holds ICT-FaceKit's light model (MIT) as arrays: neutral (n 3, centimetres), faces,
region_names and region_ranges, expression_names and expression_deltas, identity_deltas and
landmarks68. With --full nothing is left out but lashes, irises and pupil sizes.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

from mien.command_line import run_guarded
from mien.errors import UserError
from mien.face_model.face_reduction import full_model, largest_error, reduced_model
from mien.face_model.parametric import FaceModel


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    p = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    p.add_argument("model", type=Path)
    p.add_argument("output", type=Path)
    p.add_argument("--full", action="store_true", help="keep also what no camera sees")
    given = p.parse_args(argv)
    return run_guarded(lambda: _run(given.model, given.output, given.full))


def _run(source: Path, output: Path, full: bool) -> None:
    if not source.is_file():
        raise UserError(f"{source}: no such file; give ICT-FaceKit's model as .npz")
    with np.load(source) as kept:
        whole = full_model(kept)
    model = whole if full else reduced_model(whole)
    model.save(output)
    random = np.random.default_rng(0)
    saved, errors = FaceModel.load(output), []
    for _ in range(20):
        identity = random.normal(size=len(model.identity_axes))
        expression = random.uniform(0, 1, (1, len(model.expression_names)))
        errors.append(largest_error(model, saved, identity, expression))
    print(
        f"{output}: {len(model.neutral)} of {len(whole.neutral)} vertices, "
        f"{len(model.triangles)} of {len(whole.triangles)} triangles, "
        f"{output.stat().st_size / 1e6:.2f} MB; stored axes move a vertex of 20 random people "
        f"and expressions by at most {max(errors):.4f} cm"
    )


if __name__ == "__main__":
    sys.exit(main())
