"""The commands `mien` and `lightning`: making videos, data and measurements, and training.

Training uses LightningCLI; user errors are printed as one sentence, without traceback.
"""

import sys
import warnings
import zipfile
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from mien.command_line import INTERRUPTED, Stopped, failed
from mien.errors import UserError

USAGE = """usage: mien infer AUDIO PORTRAIT [-o OUT.mp4]      a portrait speaks
       mien infer --jobs JOBS.csv                      many of them, nets loaded once
       mien reenact VIDEO PORTRAIT [-o OUT.mp4]        a portrait moves as the face of a video
       mien fit-face VIDEO [-o OUT.npz]                identity, expression, pose and gaze of a face
       mien export-motion VIDEO|AUDIO PORTRAIT -o OUT  ARKit curves as Live Link Face CSV or npz
       mien drive-arkit CURVES PORTRAIT [-o OUT.mp4]   a portrait moves as ARKit curves say
       mien export --onnx DIR                          the nets as graphs of ONNX
       mien demo                                       a sample portrait speaks, into demo.mp4
       mien prepare FOOTAGE -o DATASET                 clips to train on from your footage
       mien make-pairs PORTRAITS CLIPS -o DATASET      clips to train on from still portraits
       mien evaluate speech|cross|reenact|follow|sync  metrics of lips and frames, with baselines
       mien fit --config stage1.yaml --data.root DIR   train (stage2.yaml, or loki.yaml: Loki)
       mien validate|test|predict --config stage1.yaml --ckpt_path last.ckpt --data.root DIR
       mien doctor                                     what works on this machine, or why not
       mien COMMAND --help, mien --version"""

# Each in a file of its own, whose main takes the arguments and returns the exit status.
COMMANDS = {
    "infer": "mien.infer",
    "reenact": "mien.reenactment",
    "fit-face": "mien.face_fitting",
    "export-motion": "mien.motion_export",
    "drive-arkit": "mien.curve_driving",
    "export": "mien.graph_export",
    "demo": "mien.demo",
    "prepare": "mien.prepare.command",
    "make-pairs": "mien.make_pairs.command",
    "evaluate": "mien.evaluation.command",
    "doctor": "mien.doctor",
}
TRAINING = ("fit", "validate", "test", "predict")


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    command, *rest = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    try:
        if command in COMMANDS:
            return import_module(COMMANDS[command]).main(rest)
        if command in TRAINING:
            return train([command, *with_joined_configs(rest)])
        if command in ("-h", "--help"):
            print(USAGE)
            return 0
        if command == "--version":
            print(f"mien {_version()}")
            return 0
        raise UserError(
            f"no command {command}: the commands are {', '.join((*COMMANDS, *TRAINING))}"
        )
    except (UserError, ModuleNotFoundError) as error:
        return failed(error)
    except Stopped as stop:
        return stop.status
    except KeyboardInterrupt:
        return INTERRUPTED


def _version() -> str:
    try:
        return version("mien")
    except PackageNotFoundError:
        return "that is not installed"


def with_joined_configs(arguments: list[str]) -> list[str]:
    """Replace all --config options by one merged YAML text; other arguments override it."""
    names: list[str] = []
    others: list[str] = []
    waiting = iter(arguments)
    for argument in waiting:
        flag, _, value = argument.partition("=")
        if flag in ("-c", "--config"):
            names.append(value or next(waiting, ""))
        else:
            others.append(argument)
    return [f"--config={_joined(names)}", *others] if names else others


def _joined(names: list[str]) -> str:
    from mien.overlays import join_configs

    return join_configs(names)


def train(arguments: list[str]) -> int:
    """Run one LightningCLI command.

    Raises:
        KeyboardInterrupt: it was stopped.
    """
    _check_checkpoint(arguments)
    _suppress_warnings()
    from mien.training.command import run

    try:
        run(arguments)
    except SystemExit as end:  # Lightning ends a run that was stopped with status 1
        if isinstance(end.__context__, KeyboardInterrupt):
            raise end.__context__ from None
        raise
    return 0


def _check_checkpoint(arguments: list[str]) -> None:
    """Check --ckpt_path before anything starts."""
    for flag, value in zip(arguments, [*arguments[1:], ""], strict=True):
        name, _, inline = flag.partition("=")
        path = Path(inline or value)
        if name != "--ckpt_path" or str(path) in ("last", "best"):
            continue
        if not path.is_file():
            raise UserError(f"no checkpoint {path}: check --ckpt_path")
        if not zipfile.is_zipfile(path):
            raise UserError(
                f"{path} is not a training checkpoint, or it is damaged: check --ckpt_path"
            )


def _suppress_warnings() -> None:
    """Suppress the warnings that every run raises and that need no action by the user."""
    for message in (
        "LightningCLI's args parameter is intended",
        "Using ModelCheckpoint with manual optimization",
        ".*does not have many workers",
        "You're using the WeightAveraging callback",
        "Checkpoint directory .* exists and is not empty",
        "The dirpath has changed from .*",  # a run that is resumed in another folder
        ".*LeafSpec.* is deprecated",
    ):
        warnings.filterwarnings("ignore", message)


if __name__ == "__main__":
    sys.exit(main())
