"""`mien export`: the nets as graphs of ONNX, for other runtimes and languages."""

import argparse
import sys
from pathlib import Path

from mien.command_line import Parser, run_guarded
from mien.devices import CPU, choose_device
from mien.errors import UserError


def parser() -> Parser:
    """The arguments of `mien export`."""
    p = Parser(
        prog="mien export",
        description="Write the nets as graphs of ONNX in float32, with the fingerprint of their "
        "weights as metadata: appearance (a portrait -> what rendering takes of it), "
        "motion_encoder, render, audio_encoder (front-end features -> context), denoiser (one "
        "evaluation). They take 2 to 16384 frames (of sound: 8 to 65536 steps of 10 ms).",
    )
    p.add_argument("--onnx", type=Path, metavar="DIR", required=True, help="folder to write")
    p.add_argument("--animator", type=Path, help="stage-1 weights (default: those that ship)")
    p.add_argument("--speech", type=Path, help="stage-2 weights (default: those that ship)")
    p.add_argument("--overwrite", action="store_true", help="replace graphs that exist")
    return p


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return run_guarded(lambda: _run(parser().parse_args(argv)), "finished graphs are kept")


def _run(given: argparse.Namespace) -> None:
    folder: Path = given.onnx
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file: give --onnx a folder")
    if not given.overwrite and any(folder.glob("*.onnx")):
        raise UserError(f"{folder} has graphs already: choose another folder, or add --overwrite")

    import onnxscript  # noqa: F401  which torch's exporter needs, before the work begins

    from mien.engines.onnx import write_graphs
    from mien.media.files import writable
    from mien.session.session import load_models

    animator, speech = load_models(given.animator, given.speech, choose_device(CPU))
    with writable(folder):
        write_graphs(animator, speech, folder, finished=lambda path: print(f"wrote {path}"))


if __name__ == "__main__":
    sys.exit(main())
