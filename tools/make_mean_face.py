#!/usr/bin/env python
"""The mean of many faces at rest, in head coordinates: src/mien/assets/mean_face.npy.

    python tools/make_mean_face.py OUT.npy FOLDER [FOLDER ...] [--irises]

Reads the first frame with a face of every clip and every picture in the folders. The result is a
table of 468 points, from which no person can be identified. With --irises the points are the 478
of MediaPipe's landmarker: src/mien/assets/mean_face_irises.npy.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from tqdm import tqdm

from mien.command_line import run_guarded
from mien.errors import UserError
from mien.face import FaceMesh
from mien.face.landmarker import FaceLandmarker
from mien.media import load_picture, read_frames
from mien.mesh.mean import mean_at_rest

CLIPS, PICTURES = {".mp4", ".mov", ".mkv"}, {".jpg", ".jpeg", ".png", ".webp"}


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    p = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    p.add_argument("output", type=Path)
    p.add_argument("folders", type=Path, nargs="+")
    p.add_argument("--irises", action="store_true", help="MediaPipe's 478 points")
    given = p.parse_args(argv)
    return run_guarded(lambda: _run(given.output, given.folders, given.irises))


def _run(output: Path, folders: list[Path], irises: bool) -> None:
    mesh, faces = FaceMesh(), []
    landmarker = FaceLandmarker() if irises else None
    files = [f for folder in folders for f in sorted(folder.rglob("*"))]
    for file in tqdm([f for f in files if f.suffix.lower() in CLIPS | PICTURES], unit="file"):
        picture = load_picture(file) if file.suffix.lower() in PICTURES else next(read_frames(file))
        found = mesh.faces(picture)
        if found:
            points = mesh.landmarks(picture, found[0])[0]
            if landmarker is not None:
                points = landmarker.with_irises(picture, points)
            faces.append(points.astype(np.float64))
    if not faces:
        raise UserError(f"no face in {', '.join(map(str, folders))}: give folders that show some")
    np.save(output, mean_at_rest(np.stack(faces)).astype(np.float32))
    print(f"{output}: the mean of {len(faces)} faces")


if __name__ == "__main__":
    sys.exit(main())
