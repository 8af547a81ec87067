"""`mien fit`, `validate`, `test` and `predict`: LightningCLI, with mistakes in one sentence."""

import re
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import torch
from lightning import LightningDataModule, LightningModule, Trainer
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from mien.errors import UserError, first_line
from mien.training.predictions import PredictionWriter
from mien.training.resume import ResumePoint
from mien.training.steps import SteppedModule

# How the parser says which type or choice a value should have had, and what these types are.
_EXPECTED = re.compile(
    r"Expected a (?:<class '(\w+)'>|typing.Literal\[(.*?)\]|tuple with (\d+) elements)"
)
_KINDS = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "a text",
          "tuple": "a list", "list": "a list", "dict": "a section", "NoneType": "null"}  # fmt: skip


class Parser(LightningArgumentParser):
    """Turns a wrong key or value into a UserError; options are written in full."""

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **{**named, "allow_abbrev": False})

    def parse_args(self, args: Sequence[str] | None = None, *more: Any, **named: Any) -> Any:
        """Parse options, of which `null` is no value also below --model and --data: jsonargparse
        hands it to the parser of the model's own options as the text None.
        """
        if args is not None:
            args = [re.sub(r"^(--[\w.]+)=None$", r"\1=null", option) for option in args]
        return super().parse_args(args, *more, **named)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise the message as one sentence."""
        raise UserError(_sentence(message)) from ex


class Command(LightningCLI):
    """Links the data's spec to the model; inconsistent config values are a UserError."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """The data get their spec from the model."""
        parser.link_arguments("model", "data.init_args.spec", _data_spec, "instantiate")

    def instantiate_classes(self) -> None:
        """Build model, data and trainer.

        Raises:
            UserError: a config value is invalid, or an optional package is missing.
        """
        try:
            super().instantiate_classes()
        except ValueError as error:
            raise UserError(_first_cause(error)) from error

    def before_fit(self) -> None:
        """Refuse a run that would be refused later, before its data are prepared, which may take
        hours.

        Raises:
            UserError: it is refused by its net, by its data, or by those of an earlier run.
        """
        self._refuse_checkpoint()
        if isinstance(self.model, SteppedModule):
            self.model.refuse_trainer(self.trainer)
        for callback in self.trainer.callbacks:  # pyright: ignore[reportAttributeAccessIssue]
            if isinstance(callback, ResumePoint):
                callback.refuse_earlier_run(self.trainer, self._checkpoint)

    def before_predict(self) -> None:
        """Predictions are written as they are made, so they are not kept in memory."""
        self._refuse_checkpoint()
        self.config_init["predict"]["return_predictions"] = False

    def _refuse_checkpoint(self) -> None:
        path = self._checkpoint
        if path is None or not Path(path).is_file() or not isinstance(self.model, SteppedModule):
            return
        saved = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
        self.model.refuse_checkpoint(saved, self.datamodule)

    before_validate = before_test = _refuse_checkpoint

    @property
    def _checkpoint(self) -> str | None:
        assert self.subcommand is not None
        return self.config_init[self.subcommand]["ckpt_path"]

    def _instantiate_trainer(self, config: dict[str, Any], callbacks: list[Any]) -> Trainer:
        try:
            return self._trainer(config, callbacks)
        except (MisconfigurationException, TypeError, ValueError) as error:
            raise UserError(f"an option of --trainer cannot be: {first_line(error)}") from error

    def _trainer(self, config: dict[str, Any], callbacks: list[Any]) -> Trainer:
        # Where rich is installed Lightning takes its bar, which prints nothing into a log.
        if config.get("enable_progress_bar") is not False:
            callbacks = [*callbacks, TQDMProgressBar()]
        callbacks = [*callbacks, PredictionWriter()]
        # The data modules distribute samples among processes themselves. Until the discriminator's
        # first step its parameters are unused by the loss.
        config["use_distributed_sampler"] = False
        if config["strategy"] == "auto" and _several_processes(config):
            config["strategy"] = "ddp_find_unused_parameters_true"
        return super()._instantiate_trainer(config, callbacks)


def run(arguments: list[str]) -> None:
    """One command with its options, configs joined.

    Raises:
        UserError: an option, a config or an input cannot be used.
    """
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


def _data_spec(module: Any) -> Any:
    """The data requirements of a training module; third-party modules may have none."""
    return getattr(module, "data_spec", None)


def _several_processes(trainer: Mapping[str, Any]) -> bool:
    """Whether a trainer of these options trains in several processes."""
    devices = trainer["devices"]
    if isinstance(devices, str) and "," in devices:
        devices = [number for number in devices.split(",") if number.strip()]
    if isinstance(devices, list | tuple):
        count = len(devices)
    elif str(devices) in ("auto", "-1"):  # all devices; the CPU counts as one
        count = 1 if trainer["accelerator"] == "cpu" else torch.cuda.device_count()
    else:
        count = int(devices) if str(devices).isdecimal() else 1  # Lightning refuses what is none
    return count > 1 or trainer["num_nodes"] > 1


def _sentence(message: str) -> str:
    """The parser's message on one line, without its advice for programmers."""
    if re.search(r"required: \w+\.data, \w+\.model", message):
        return "no net and no data: give --config stage1.yaml, stage2.yaml or loki.yaml"
    if unknown := _unknown_option(message):
        return f"no option {unknown}: check its spelling (options are the keys of the configs)"
    if wrong := _wrong_value(message):
        return wrong
    first = re.split(r"\n\s*\n|\bParent parser\b", message.strip())[0]
    return " ".join(first.split())


def _unknown_option(message: str) -> str | None:
    """The option that this parser refuses, or that of the model's or the data's own options, which
    is of this class as well.
    """
    found = re.search(
        r"Option '([^']+)' is not accepted|unrecognized arguments: ([^\s=]+)|no option (\S+):",
        message,
    )
    if found is None:
        return None
    name = found[1] or found[2] or found[3]
    section = re.match(r'\s*Parser key "(model|data)":', message)
    if section is None:
        return name
    given = re.search(r"NestedArg\(key='([\w.]+)'", message)  # with all sections it is in
    return f"--{section[1]}.{given[1] if given else name.removeprefix('--')}"


def _wrong_value(message: str) -> str | None:
    """What a value must be that this parser refuses, or that of the model's or the data's own
    options; None if something else is wrong with it.
    """
    key = re.match(r'\s*Parser key "([\w.]+)":', message)
    if key is None:
        return None
    if inner := re.search(r"^\s*- ([\w.]+ (?:must|cannot) be .+)$", message, re.MULTILINE):
        of_list = re.search(r"NestedArg\(key='[\w.]+', val=\[", message)
        each = "each of " if of_list and "must be a list" not in inner[1] else ""
        return f"{each}{key[1]}.{inner[1]}"
    if problem := re.search(r"Problem with given class_path '(.+?)':\s*(.+)", message):
        return f"{key[1]} cannot be {problem[1]}: {problem[2]}"
    value = re.search(r"(?:Got|Given) value: (.*)|Unable to load config '(.*)'", message)
    if value is None:
        return None
    reasons = re.findall(r"^\s*- (.*)", message, re.MULTILINE) or [message[key.end() :].strip()]
    expected = [_EXPECTED.match(reason) for reason in reasons]
    if None in expected:
        return f"{key[1]} cannot be {value[1] or value[2]}"
    kinds = " or ".join(_kind(each) for each in expected if each)
    return f"{key[1]} must be {kinds}, not {value[1]}"


def _kind(expected: re.Match[str]) -> str:
    """What the parser expected, in plain words."""
    kind, choices, length = expected.groups()
    if length:
        return f"a list of {length}"
    return _KINDS.get(kind, kind) if kind else choices.replace("'", "").replace(", ", " or ")


def _first_cause(error: ValueError) -> str:
    """The reason why a config or a file was refused, from the errors that the parser wraps.

    Raises:
        ValueError: the error itself, if it is a bug and not invalid input.
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
