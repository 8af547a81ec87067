#!/usr/bin/env python
"""FLAME 2023, as downloaded, as a face model file for mien (without pickle).

    python tools/convert_flame.py flame2023.pkl OUT.npz [--points mediapipe_landmark_embedding.npz]

Nothing in the archive is executed: see mien.face_model.flame. `--points` says where points of
MediaPipe lie on FLAME (arrays landmark_indices, lmk_face_idx, lmk_b_coords, as the FLAME site has
them); without it the model can be drawn but not fitted.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from mien.command_line import positive, run_guarded
from mien.errors import UserError
from mien.face_model.flame import flame_model, read_flame


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    p = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    p.add_argument("archive", type=Path)
    p.add_argument("output", type=Path)
    p.add_argument("--points", type=Path, help="MediaPipe's points on FLAME")
    p.add_argument("--shapes", type=positive(int), default=100, help="identity axes (100)")
    p.add_argument("--expressions", type=positive(int), default=50, help="expression axes (50)")
    given = p.parse_args(argv)
    return run_guarded(lambda: _run(given))


def _run(given: argparse.Namespace) -> None:
    kept = read_flame(given.archive)
    points = None if given.points is None else _points(given.points, kept)
    model = flame_model(kept, given.shapes, given.expressions, points)
    model.save(given.output)
    print(
        f"{given.output}: {len(model.neutral)} vertices, {len(model.identity_axes)} identity and "
        f"{len(model.expression_axes)} expression axes"
    )


def _points(
    path: Path, kept: dict[str, np.ndarray]
) -> tuple[Int[np.ndarray, " l"], Float[np.ndarray, "l 3"]]:
    """Which of MediaPipe's points are known, and their places on the neutral mesh."""
    try:
        with np.load(path, allow_pickle=False) as embedding:
            marks = embedding["landmark_indices"].astype(np.int64)
            corners = kept["f"][embedding["lmk_face_idx"]].astype(np.int64)
            weights = embedding["lmk_b_coords"]
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{path} is no embedding of MediaPipe's points ({error})") from error
    places = np.einsum("lk,lkx->lx", weights, kept["v_template"][corners])
    return marks, places


if __name__ == "__main__":
    sys.exit(main())
