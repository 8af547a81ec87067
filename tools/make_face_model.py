#!/usr/bin/env python
"""ICT-FaceKit's light model as mien's face model: src/mien/assets/face_model.npz.

    python tools/make_face_model.py ict_face.npz OUT.npz [--full]

`ict_face.npz` holds ICT-FaceKit's light model (MIT) as arrays: neutral (n 3, centimetres), faces,
region_names and region_ranges, expression_names and expression_deltas, identity_deltas and
landmarks68. With --full nothing is left out but lashes, irises and pupil sizes.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from mien.command_line import run_guarded
from mien.errors import UserError
from mien.face_model.coefficients import FaceCoefficients
from mien.face_model.face_reduction import full_model, largest_error, reduced_model
from mien.face_model.known_clips import speaking
from mien.face_model.parametric import FaceModel
from mien.ops.rasterize import rasterize_perspective

_PEOPLE, _FRAMES, _SIDE = 6, 12, 256


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
    mean, worst = _drawn_otherwise(whole, model)
    print(f"drawn, {mean:.1e} of its pixels are of another region (worst frame: {worst:.1e})")


def _drawn_otherwise(whole: FaceModel, model: FaceModel) -> tuple[float, float]:
    """The share of the whole model's pixels where the other one shows another region or nothing:
    speaking people with heads turned by up to 45 degrees, mean and largest of the frames.
    """
    shares = []
    for seed in range(_PEOPLE):
        clip = speaking(whole, _FRAMES, seed)
        clip = replace(
            clip, rotation=3 * clip.rotation, camera=replace(clip.camera, width=_SIDE, height=_SIDE)
        )
        regions = [_regions(one, clip) for one in (whole, model)]
        different = (regions[0] != regions[1]).sum(axis=(1, 2))
        shares += (different / (regions[0] >= 0).sum(axis=(1, 2))).tolist()
    return float(np.mean(shares)), float(np.max(shares))


def _regions(model: FaceModel, clip: FaceCoefficients) -> np.ndarray:
    """The number of the region that each pixel (t h w) shows, -1 off the mesh."""
    nothing = np.zeros((len(clip), len(model.neutral), 0))
    drawn = rasterize_perspective(
        model.project(clip), model.triangles, nothing, _SIDE, _SIDE, "front"
    ).triangles
    corner = model.triangles[:, 0]
    return np.where(drawn >= 0, model.region[corner[drawn]].astype(int), -1)


if __name__ == "__main__":
    sys.exit(main())
