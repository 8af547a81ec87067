"""The commands `mien` and `lightning`: making videos, data and measurements, and training.

Training goes through LightningCLI; a person's mistake is told in one sentence, without traceback.
"""

import re
import sys
import traceback
import warnings
import zipfile
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NoReturn

from mien.errors import UserError

USAGE = """usage: mien infer AUDIO PORTRAIT [-o OUT.mp4]      a portrait speaks
       mien demo                                       the astronaut does, into demo.mp4
       mien prepare FOOTAGE -o DATASET                 clips to train on from your footage
       mien make-pairs PORTRAITS CLIPS -o DATASET      clips to train on from still portraits
       mien evaluate speech|cross|reenact|sync ...     how good lips and pictures are, beside rivals
       mien fit --config stage1.yaml --data.root DIR   train (stage2.yaml: the second stage)
       mien validate|test|predict --config stage1.yaml --ckpt_path last.ckpt --data.root DIR
       mien doctor                                     what works on this machine, and why not
       mien COMMAND --help, mien --version"""

TRAINING = ("fit", "validate", "test", "predict")


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    command, *rest = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    try:
        if command == "infer":
            from mien.infer import main as infer

            return infer(rest)
        if command == "demo":
            from mien.demo import main as demo

            return demo(rest)
        if command == "prepare":
            from mien.prepare.command import main as prepare

            return prepare(rest)
        if command == "make-pairs":
            from mien.make_pairs.command import main as make_pairs

            return make_pairs(rest)
        if command == "evaluate":
            from mien.evaluation.command import main as evaluate

            return evaluate(rest)
        if command == "doctor":
            from mien.doctor import main as doctor

            return doctor(rest)
        if command in TRAINING:
            return train([command, *with_joined_configs(rest)])
        if command in ("-h", "--help"):
            print(USAGE)
            return 0
        if command == "--version":
            print(f"mien {_version()}")
            return 0
        raise UserError(
            f"no command {command}: the commands are infer, demo, prepare, make-pairs, evaluate, "
            f"doctor, {', '.join(TRAINING)}"
        )
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _version() -> str:
    try:
        return version("mien")
    except PackageNotFoundError:
        return "that is not installed"


def with_joined_configs(arguments: list[str]) -> list[str]:
    """Replace every --config by one text that joins them all; other arguments win over it."""
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
    """One LightningCLI command, in words that a person understands when it cannot be done."""
    _check_checkpoint(arguments)
    _quieten()
    from lightning import LightningDataModule, LightningModule, Trainer
    from lightning.pytorch.callbacks import TQDMProgressBar
    from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

    class Parser(LightningArgumentParser):
        """Tells a wrong key or value as a UserError."""

        def error(self, message: str, ex: Exception | None = None) -> NoReturn:
            raise UserError(_sentence(message)) from ex

    class Command(LightningCLI):
        """Tells numbers that do not fit together as a UserError."""

        def instantiate_classes(self) -> None:
            try:
                super().instantiate_classes()
            except ValueError as error:
                raise UserError(_first_cause(error)) from error

        def _instantiate_trainer(self, config: dict[str, Any], callbacks: list[Any]) -> Trainer:
            # Where rich is installed Lightning takes its bar, which prints nothing into a log.
            if config.get("enable_progress_bar") is not False:
                callbacks = [*callbacks, TQDMProgressBar()]
            # The data share samples out among processes themselves. A discriminator that waits for
            # its first step has weights that no loss reaches.
            config["use_distributed_sampler"] = False
            if config["strategy"] == "auto" and _several_processes(config):
                config["strategy"] = "ddp_find_unused_parameters_true"
            return super()._instantiate_trainer(config, callbacks)

    Command(
        LightningModule,
        LightningDataModule,
        subclass_mode_model=True,
        subclass_mode_data=True,
        parser_class=Parser,
        save_config_kwargs={"overwrite": True},
        auto_configure_optimizers=False,
        args=arguments,
    )
    return 0


def _several_processes(trainer: Mapping[str, Any]) -> bool:
    """Whether a trainer of these options trains in several processes."""
    devices = trainer["devices"]
    if isinstance(devices, str) and "," in devices:
        devices = [number for number in devices.split(",") if number.strip()]
    if isinstance(devices, list | tuple):
        count = len(devices)
    elif str(devices) in ("auto", "-1"):  # all there are; of processors there is one
        import torch

        count = 1 if trainer["accelerator"] == "cpu" else torch.cuda.device_count()
    else:
        count = int(devices)
    return count > 1 or trainer["num_nodes"] > 1


def _check_checkpoint(arguments: list[str]) -> None:
    """A wrong --ckpt_path is told before anything starts."""
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


def _sentence(message: str) -> str:
    """The parser's message on one line, without its advice for programmers."""
    first = re.split(r"\n\s*\n|\bParent parser\b", message.strip())[0]
    return " ".join(first.split())


def _first_cause(error: ValueError) -> str:
    """What a config or a file was refused for, from under the parser's wrapping.

    Raises:
        ValueError: the error itself, if it is no refusal but a fault of the program.
    """
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
        if isinstance(cause, UserError):
            return str(cause)
        if isinstance(cause, ModuleNotFoundError) and "wandb" in str(cause):
            return (
                "the logger of Weights & Biases needs the package wandb: install it with "
                'pip install "mien[wandb]", or leave out --config wandb.yaml'
            )
    frames = traceback.extract_tb(cause.__traceback__)
    if frames[-1].name in ("__post_init__", "require_multiple"):
        return str(cause)
    raise error


def _quieten() -> None:
    """Drop the warnings that are true of every run here and ask nothing of the user."""
    for message in (
        "LightningCLI's args parameter is intended",
        "Using ModelCheckpoint with manual optimization",
        ".*does not have many workers",
        "You're using the WeightAveraging callback",
        "Checkpoint directory .* exists and is not empty",
        "The dirpath has changed from .*",  # a run that goes on in another folder
        ".*LeafSpec.* is deprecated",
    ):
        warnings.filterwarnings("ignore", message)


if __name__ == "__main__":
    sys.exit(main())
