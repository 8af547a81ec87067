"""`make demo`, `python -m mien.demo`: the astronaut speaks a sentence, with nothing to download.

The portrait is NASA's picture of Eileen Collins (public domain, out of scikit-image), the sentence
was made with a speech synthesiser.
"""

import sys
from importlib.resources import as_file, files
from pathlib import Path

from mien.command_line import progress_bar, run_guarded, starting

OUTPUT = Path("demo.mp4")


def main(argv: list[str] | None = None) -> int:
    """Write demo.mp4 here, over its own earlier one; returns the exit status."""
    return run_guarded(lambda: print(_run(sys.argv[1:] if argv is None else argv)))


def _run(arguments: list[str]) -> str:
    from mien.errors import UserError

    if arguments:
        raise UserError(
            "the demo takes no arguments; `mien infer AUDIO PORTRAIT` is for your own files"
        )
    with starting():
        from skimage import data

        from mien.pipeline import animate

    with as_file(files("mien") / "assets" / "demo.wav") as sentence, progress_bar() as progress:
        report = animate(sentence, data.astronaut(), OUTPUT, overwrite=True, progress=progress)
    return str(report)


if __name__ == "__main__":
    sys.exit(main())
