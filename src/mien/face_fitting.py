"""`mien fit-face CLIP`: the coefficients of the face in a video or a picture, as a file."""

import argparse
import sys
from pathlib import Path

from mien.command_line import Parser, positive, progress_bar, run_guarded
from mien.paths import refuse_file

SUFFIX = ".npz"


def parser() -> Parser:
    """The arguments of `mien fit-face`."""
    p = Parser(
        prog="mien fit-face",
        description="Fit the parametric face to a video: identity, expression, head pose, gaze "
        "and camera, as .npz (mien.face_model.coefficients).",
    )
    p.add_argument("clip", type=Path, help="a video or picture that shows a face")
    p.add_argument("-o", "--output", type=Path, 
                   help="file to write (default: CLIP.npz, beside the clip)")  # fmt: skip
    p.add_argument("--overwrite", action="store_true", help="replace the output if it exists")
    p.add_argument("--face-model", type=Path, metavar="NPZ",
                   help="a file of tools/make_face_model.py or tools/convert_flame.py "
                   "(default: the model that ships)")  # fmt: skip
    p.add_argument("--focal", type=positive(float),
                   help="focal length of the camera, as a multiple of the picture's longer side "
                   "(default: that of a face two metres away)")  # fmt: skip
    return p


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return run_guarded(lambda: print(_run(parser().parse_args(argv))))


def _run(given: argparse.Namespace) -> str:
    from mien.face_model.clips import fit_file
    from mien.face_model.parametric import FaceModel

    output = given.output or given.clip.with_name(f"{given.clip.stem}{SUFFIX}")
    refuse_file(output, (SUFFIX,), (given.clip,), given.overwrite)
    model = FaceModel.load(given.face_model)
    with progress_bar() as show:
        found = fit_file(
            given.clip, model=model, focal=given.focal, progress=lambda done: show(done, 0)
        )
    found.save(output)
    last = int(found.frames[-1]) + 1
    return f"{output}: {len(found)} of {last} frames show the face"


if __name__ == "__main__":
    sys.exit(main())
