"""Weights that describe themselves: what net, of which numbers, trained beside which animator.

Two forms are read alike: the safetensors files that ship, and the .ckpt files that training leaves
(of those the averaged weights, which are the ones to use). A net is rebuilt from the file alone.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from pickle import PickleError
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from mien.config import restore
from mien.errors import UserError
from mien.media.files import written_whole
from mien.motion.speech_to_motion import SpeechToMotion, SpeechToMotionConfig
from mien.portrait.animator import Animator, AnimatorConfig

ANIMATOR = "animator"
SPEECH_TO_MOTION = "speech_to_motion"
WEIGHTS = Path(__file__).parent / "weights"

# Where the net of each kind stands in its stage of training.
_PART_OF_STAGE = {ANIMATOR: "animator", SPEECH_TO_MOTION: "speech"}

# What a number meant in files that were written before it existed, where that is not its default.
_BEFORE = {ANIMATOR: {"guide": False}, SPEECH_TO_MOTION: {"mesh": False, "direct_head": False}}

_UNREADABLE = (SafetensorError, LookupError, TypeError, ValueError, RuntimeError, PickleError)


@dataclass(frozen=True)
class Weights:
    """A file of weights, read and checked, before a net is built from it.

    `animator_fingerprint` names the motion (motion_fingerprint) that a speech_to_motion learned.
    """

    kind: str
    config: dict[str, Any]
    state: dict[str, Tensor]
    fingerprint: str
    animator_fingerprint: str | None = None


def fingerprint(state: Mapping[str, Tensor]) -> str:
    """Sixteen letters that change with any weight by more than float16 can tell.

    Taken over names and values rounded to float16, so that a float16 copy keeps its fingerprint;
    zeros count alike whatever their sign, which averaging weights over steps takes away.
    """
    digest = hashlib.sha256()
    for name in sorted(state):
        value = state[name].detach().cpu()
        value = value.half() + 0.0 if value.is_floating_point() else value
        digest.update(f"{name} {tuple(value.shape)} ".encode())
        digest.update(value.contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def motion_fingerprint(animator: Mapping[str, Tensor]) -> str:
    """The fingerprint of an animator's motion: of the parts that say what motion and appearance
    are. A stage 2 is bound to it, and stays so while the parts that draw are trained on.
    """
    speaks = "motion_encoder.", "appearance_vector."
    return fingerprint({k: v for k, v in animator.items() if k.startswith(speaks)})


def save_weights(path: Path, weights: Weights) -> None:
    """Write a safetensors file, whole or not at all."""
    metadata = {
        "kind": weights.kind,
        "config": json.dumps(weights.config),
        "fingerprint": weights.fingerprint,
    }
    if weights.animator_fingerprint is not None:
        metadata["animator_fingerprint"] = weights.animator_fingerprint

    state = {name: value.contiguous() for name, value in weights.state.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as unfinished:
        save_file(state, unfinished, metadata)
        unfinished.chmod(0o644)


def save_animator(path: Path, animator: Animator) -> None:
    """Write an animator to a safetensors file."""
    state = animator.state_dict()
    save_weights(path, Weights(ANIMATOR, asdict(animator.config), state, fingerprint(state)))


def save_speech_to_motion(path: Path, speech: SpeechToMotion, animator_fingerprint: str) -> None:
    """Write a speech-to-motion net to a safetensors file, bound to the animator it speaks to."""
    state, config = speech.state_dict(), asdict(speech.config)
    weights = Weights(SPEECH_TO_MOTION, config, state, fingerprint(state), animator_fingerprint)
    save_weights(path, weights)


def as_half(weights: Weights) -> Weights:
    """The same weights at half the size; the fingerprint stays."""
    state = {
        name: value.half() if value.is_floating_point() else value
        for name, value in weights.state.items()
    }
    return Weights(
        weights.kind, weights.config, state, weights.fingerprint, weights.animator_fingerprint
    )


def load_animator(path: Path) -> Animator:
    """Rebuild an animator, ready for use (evaluation mode, on the CPU, float32).

    Raises:
        UserError: the file is missing, damaged, of another kind, or does not fit this version.
    """
    weights = read_weights(path, ANIMATOR)
    animator = Animator(restore(AnimatorConfig, _BEFORE[ANIMATOR] | weights.config))
    fill(animator, weights, path)
    return animator.eval()


def load_speech_to_motion(path: Path, animator_fingerprint: str | None = None) -> SpeechToMotion:
    """Rebuild the net that turns speech into the motion of this animator, ready for use; None where
    no animator will draw the motion.

    Raises:
        UserError: as load_animator, or it was trained on the motion of another animator.
    """
    weights = read_weights(path, SPEECH_TO_MOTION)
    if animator_fingerprint not in (None, weights.animator_fingerprint):
        raise UserError(
            f"{path} was trained on the motion of animator {weights.animator_fingerprint}, but the "
            f"animator given is {animator_fingerprint}: use the two files of one training"
        )
    config = _BEFORE[SPEECH_TO_MOTION] | weights.config
    speech = SpeechToMotion(restore(SpeechToMotionConfig, config))
    fill(speech, weights, path)
    return speech.eval()


def default_weights() -> tuple[Path, Path]:
    """The animator and the speech-to-motion that ship inside the package."""
    return WEIGHTS / "animator.safetensors", WEIGHTS / "speech_to_motion.safetensors"


def fill(net: nn.Module, weights: Weights, path: Path) -> None:
    """Put the weights into a net that must fit them exactly.

    Raises:
        UserError: a key is missing, unknown or of another shape; the message names it.
    """
    wanted = net.state_dict()
    missing = sorted(wanted.keys() - weights.state.keys())
    unknown = sorted(weights.state.keys() - wanted.keys())
    for problem, keys in (("lacks the key", missing), ("has the unknown key", unknown)):
        if keys:
            more = f" and {len(keys) - 1} more" if len(keys) > 1 else ""
            raise UserError(f"{path} {problem} {keys[0]}{more}: it is not of this version of mien")
    for key, value in weights.state.items():
        if value.shape != wanted[key].shape:
            raise UserError(
                f"{path} holds {key} as {tuple(value.shape)}, but its own config says "
                f"{tuple(wanted[key].shape)}: the file is damaged"
            )
    net.load_state_dict(weights.state)


def read_weights(path: Path, kind: str | None = None) -> Weights:
    """Read a .safetensors of mien or a .ckpt of its training, and check that it is whole.

    Raises:
        UserError: it is missing, damaged, foreign, or of another kind than the one asked for.
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

    if kind is not None and weights.kind != kind:
        raise UserError(f"{path} holds weights of the kind {weights.kind}, here {kind} is wanted")
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
    )


def _read_training(path: Path) -> Weights:
    saved = torch.load(path, map_location="cpu", weights_only=True)
    return Weights(
        saved["kind"],
        saved["config"],
        part_of(saved["state_dict"], _PART_OF_STAGE[saved["kind"]]),
        saved["fingerprint"],
        saved.get("animator_fingerprint"),
    )


def part_of(state: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """The entries below `name.` of a larger net's state, under their own names."""
    return {key.removeprefix(f"{name}."): state[key] for key in state if key.startswith(f"{name}.")}


def refuse_other_run(checkpoint: dict[str, Any], kind: str, config: dict[str, Any]) -> None:
    """A training checkpoint continues only the run that it is of.

    Raises:
        UserError: it is of another stage, or a number of its net differs; the message names it.
    """
    if checkpoint.get("kind") != kind:
        raise UserError(
            f"the checkpoint is of the kind {checkpoint.get('kind')}, this stage trains {kind}"
        )
    for key, value in config.items():
        saved = checkpoint["config"].get(key)
        if saved != value:
            raise UserError(
                f"the checkpoint has {key} {saved}, the config says {value}: use the config of its "
                "run, or start anew with model.initial_weights"
            )
