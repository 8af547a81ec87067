"""Self-describing weights: a net is rebuilt, with its config, from the file alone.

The module of each kind of weights registers its name, config class and net, and SYSTEMS lists that
module. Two formats are read: safetensors files, as they are shipped, and the .ckpt files of
training (of those the averaged weights, which are the ones to use).
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from importlib import import_module
from pathlib import Path
from pickle import PickleError
from typing import Any, Generic, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from mien.config import restore
from mien.errors import UserError
from mien.media.files import written_whole
from mien.nn.initialization import NoInitialization

# The modules that register kinds; imported when a kind is looked up by its name.
SYSTEMS = ("mien.checkpoint", "mien.loki.weights")

_UNREADABLE = (SafetensorError, LookupError, TypeError, ValueError, RuntimeError, PickleError)

Net = TypeVar("Net", bound=nn.Module)


@dataclass(frozen=True)
class Kind(Generic[Net]):
    """A kind of weights.

    Args:
        name: in files and messages.
        config: the frozen dataclass of the net's hyperparameters.
        net: makes the net of a config.
        part: the attribute of the training module that holds the net.
        before: values of config fields for files written before the field existed, where that is
            not the field's default.
        renamed: substrings of state dict keys in older files, and what replaces them.
    """

    name: str
    config: type
    net: Callable[[Any], Net]
    part: str
    before: Mapping[str, Any] = field(default_factory=dict)
    renamed: Mapping[str, str] = field(default_factory=dict)


_KINDS: dict[str, Kind[Any]] = {}


def register(kind: Kind[Net]) -> Kind[Net]:
    """Make a kind known by its name; returns it.

    Raises:
        ValueError: there is another kind of that name.
    """
    if _KINDS.setdefault(kind.name, kind) != kind:
        raise ValueError(f"two kinds of weights are named {kind.name}: give one another name")
    return kind


def kind_named(name: str) -> Kind[Any]:
    """The kind of that name.

    Raises:
        LookupError: no system registers one.
    """
    for module in SYSTEMS:
        import_module(module)
    return _KINDS[name]


@dataclass(frozen=True)
class Weights:
    """A file of weights, read and checked, before a net is built from it.

    `animator_fingerprint` names the motion (motion_fingerprint) that they were trained on; None for
    weights that are bound to no animator. `face_model` says on which face model's maps they were
    trained; None for weights that see none, and for files that do not say it. `sampling` holds the
    sampling settings of the training run; None for nets that are not sampled, and for files that do
    not say it.
    """

    kind: str
    config: dict[str, Any]
    state: dict[str, Tensor]
    fingerprint: str
    animator_fingerprint: str | None = None
    face_model: dict[str, Any] | None = None
    sampling: dict[str, Any] | None = None


def fingerprint(state: Mapping[str, Tensor]) -> str:
    """A hash of 16 hex digits that changes with any weight by more than float16's resolution.

    Taken over names and values rounded to float16, so that a float16 copy keeps its fingerprint;
    the sign of zeros is ignored, since averaging weights over steps loses it.
    """
    digest = hashlib.sha256()
    for name in sorted(state):
        value = state[name].detach().cpu()
        value = value.half() + 0.0 if value.is_floating_point() else value
        digest.update(f"{name} {tuple(value.shape)} ".encode())
        digest.update(value.contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def save_weights(path: Path, weights: Weights) -> None:
    """Write a safetensors file atomically."""
    metadata = {
        "kind": weights.kind,
        "config": json.dumps(weights.config),
        "fingerprint": weights.fingerprint,
    }
    if weights.animator_fingerprint is not None:
        metadata["animator_fingerprint"] = weights.animator_fingerprint
    if weights.face_model is not None:
        metadata["face_model"] = json.dumps(weights.face_model)
    if weights.sampling is not None:
        metadata["sampling"] = json.dumps(weights.sampling)
    state = {name: value.contiguous() for name, value in weights.state.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as unfinished:
        save_file(state, unfinished, metadata)
        unfinished.chmod(0o644)


def to_float16(weights: Weights) -> Weights:
    """The same weights in float16; the fingerprint is unchanged."""
    state = {
        name: value.half() if value.is_floating_point() else value
        for name, value in weights.state.items()
    }
    return replace(weights, state=state)


def load(path: Path, kind: Kind[Net]) -> Net:
    """Rebuild a net, ready for use (evaluation mode, on the CPU, float32).

    Raises:
        UserError: the file is missing, damaged, of another kind, or does not fit this version.
    """
    return build(read_weights(path, kind), kind, path)


def build(weights: Weights, kind: Kind[Net], path: Path) -> Net:
    """The net that weights describe; `path` is for messages.

    Raises:
        UserError: they do not fit this version.
    """
    with NoInitialization():
        net = kind.net(config_of(kind, weights.config))
    load_state(net, weights, path)
    return net.eval()


def config_of(kind: Kind[Any], saved: Mapping[str, Any]) -> Any:
    """The config in a file, as it was meant when the file was written.

    Raises:
        UserError: a key is unknown, missing or of the wrong type; the message names it.
    """
    return restore(kind.config, {**kind.before, **saved})


def load_state(net: nn.Module, weights: Weights, path: Path) -> None:
    """Load the weights into a net that must fit them exactly.

    Raises:
        UserError: a key is missing, unknown or of another shape; the message names it.
    """
    wanted, state = net.state_dict(), current_state(weights)
    missing = sorted(wanted.keys() - state.keys())
    unknown = sorted(state.keys() - wanted.keys())
    for problem, keys in (("lacks the key", missing), ("has the unknown key", unknown)):
        if keys:
            more = f" and {len(keys) - 1} more" if len(keys) > 1 else ""
            raise UserError(f"{path} {problem} {keys[0]}{more}: it is not of this version of mien")
    for key, value in state.items():
        if value.shape != wanted[key].shape:
            raise UserError(
                f"{path} holds {key} as {tuple(value.shape)}, but its own config says "
                f"{tuple(wanted[key].shape)}: the file is damaged"
            )
    net.load_state_dict(state)


def current_state(weights: Weights) -> dict[str, Tensor]:
    """The weights under their current names, renamed from those of older files."""
    return _renamed(weights.state, kind_named(weights.kind))


def _renamed(state: Mapping[str, Tensor], kind: Kind[Any]) -> dict[str, Tensor]:
    def current(name: str) -> str:
        for before, now in kind.renamed.items():
            name = name.replace(before, now)
        return name

    return {current(name): value for name, value in state.items()}


def use_current_names(checkpoint: dict[str, Any], kind: Kind[Any]) -> None:
    """Rename the weights of a training checkpoint that an older version wrote, in place."""
    for name in ("state_dict", "current_model_state"):  # averaged weights, and those in training
        if name in checkpoint:
            checkpoint[name] = _renamed(checkpoint[name], kind)


def read_weights(path: Path, kind: Kind[Any] | None = None) -> Weights:
    """Read a .safetensors of mien or a .ckpt of its training, and check its integrity.

    Raises:
        UserError: it is missing, damaged, foreign, or of another kind than the requested one.
    """
    path = Path(path)
    try:
        is_training_checkpoint = path.open("rb").read(2) == b"PK"
        weights = _read_training(path) if is_training_checkpoint else _read_shipped(path)
    except OSError as error:
        raise UserError(f"cannot read the weights {path}: {error.strerror}") from error
    except _UNREADABLE as error:
        raise UserError(
            f"{path} is not a checkpoint of mien, or it is damaged: give a .safetensors or .ckpt"
        ) from error
    if kind is not None and weights.kind != kind.name:
        raise UserError(
            f"{path} has weights of the kind {weights.kind}, but {kind.name} is expected"
        )
    if fingerprint(weights.state) != weights.fingerprint:
        raise UserError(f"{path} is damaged: its weights do not match its own fingerprint")
    return weights


def _read_shipped(path: Path) -> Weights:
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    return Weights(
        metadata["kind"],
        json.loads(metadata["config"]),
        state,
        metadata["fingerprint"],
        metadata.get("animator_fingerprint"),
        json.loads(metadata.get("face_model", "null")),
        json.loads(metadata.get("sampling", "null")),
    )


def _read_training(path: Path) -> Weights:
    saved = torch.load(path, map_location="cpu", weights_only=True)
    return Weights(
        saved["kind"],
        saved["config"],
        part_of(saved["state_dict"], kind_named(saved["kind"]).part),
        saved["fingerprint"],
        saved.get("animator_fingerprint"),
        saved.get("face_model"),
        saved.get("sampling"),
    )


def part_of(state: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """The entries below `name.` of a larger net's state, under their own names."""
    return {key.removeprefix(f"{name}."): state[key] for key in state if key.startswith(f"{name}.")}


def describe(checkpoint: dict[str, Any], kind: Kind[Any], config: Any) -> None:
    """Store kind, config and fingerprint in a training checkpoint."""
    checkpoint["kind"] = kind.name
    checkpoint["config"] = asdict(config)
    checkpoint["fingerprint"] = fingerprint(part_of(checkpoint["state_dict"], kind.part))


def refuse_other_run(checkpoint: dict[str, Any], kind: Kind[Any], config: Any) -> None:
    """Check that a training checkpoint is of this run.

    Raises:
        UserError: it is of another stage, or a config field differs; the message names it.
    """
    if checkpoint.get("kind") != kind.name:
        raise UserError(
            f"the checkpoint is of the kind {checkpoint.get('kind')}, this stage trains {kind.name}"
        )
    saved = asdict(config_of(kind, checkpoint["config"]))
    for key, value in asdict(config).items():
        if saved[key] != value:
            raise UserError(
                f"the checkpoint has {key} {saved[key]}, the config says {value}: use the config "
                "of its run, or start anew with model.initial_weights"
            )
