"""The kind of weights that Loki's are (`mien.kinds`), and the face model they are bound to."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from einops import rearrange
from torch import Tensor

from mien.config import restore_sampling
from mien.errors import UserError
from mien.face_model.parametric import OFFSET_DEVIATION, face_model_fingerprint
from mien.kinds import Kind, build, read_weights, register
from mien.loki.config import LokiConfig
from mien.loki.net import Loki
from mien.loki.sampling import LokiSamplingConfig

LOKI = register(Kind("loki", LokiConfig, Loki, "loki"))

SHIPPED = Path(__file__).parents[1] / "weights" / "loki.safetensors"

# Keys of the convolutions that patches are the channels of, in the backbone and in a frozen copy of
# it, and their axes folded and apart.
_FIRST, _LAST = "backbone.unet.conv_in.conv.weight", "backbone.unet.conv_out."
_FOLDED_IN = "d (c h w) kh kw -> d c h w kh kw", "d c h w kh kw -> d (c h w) kh kw"
_FOLDED_OUT = "(c h w) ... -> c h w ...", "c h w ... -> (c h w) ..."

# The face model of files that do not say on which they were trained, and the sampling settings of
# those that were written before there were these settings.
_BEFORE = {"fingerprint": "8025aeabfe5df721", "offset_deviation": 0.124}
_SAMPLING_BEFORE = {"temperature": 1.0}


def face_model_record() -> dict[str, Any]:
    """What the condition maps depend on: the face model, and the unit of its expression offsets."""
    return {"fingerprint": face_model_fingerprint(), "offset_deviation": OFFSET_DEVIATION}


def refuse_other_face_model(record: dict[str, Any] | None, path: Path | str) -> None:
    """Check that weights were trained on maps of the face model that the package carries; None is
    the record of a file that does not say it.

    Raises:
        UserError: they were trained on others.
    """
    trained, here = record or _BEFORE, face_model_record()
    if trained != here:
        raise UserError(
            f"{path} was trained on maps of the face model {trained['fingerprint']} (offsets in "
            f"{trained['offset_deviation']} cm), this version of mien draws those of "
            f"{here['fingerprint']} (in {here['offset_deviation']} cm): use the version that "
            "trained it, or train again"
        )


def resize_patch(
    state: Mapping[str, Tensor], before: LokiConfig, after: LokiConfig
) -> dict[str, Tensor]:
    """Weights of a net in pixels for patches that are a multiple as large: the first convolution
    reads means of squares, the last one fills squares, so that a net of 64 px in patches of 4
    draws the same at 128 px in patches of 8, until it has learned the detail. (After the resized
    patch embeddings of arXiv 2212.08013.)

    Raises:
        UserError: the new patches are no multiple, or one of the nets is of latents.
    """
    factor, left = divmod(after.patch, before.patch)
    if left or "latent" in (before.space, after.space):
        raise UserError(
            f"patches of {before.patch} ({before.space}) cannot become patches of {after.patch} "
            f"({after.space}): give a multiple, in pixels"
        )
    sides = {"c": 3, "h": before.patch, "w": before.patch}
    resized = dict(state)
    for key in state:
        if key.endswith(_FIRST):
            split, join, axis, scale = *_FOLDED_IN, 2, 1 / factor**2
        elif _LAST in key:
            split, join, axis, scale = *_FOLDED_OUT, 1, 1.0
        else:
            continue
        squares = rearrange(state[key], split, **sides)
        squares = squares.repeat_interleave(factor, axis).repeat_interleave(factor, axis + 1)
        resized[key] = rearrange(scale * squares, join)
    return resized


def load_loki(path: Path = SHIPPED) -> Loki:
    """Rebuild Loki's net, by default from the file that ships, ready for use (evaluation mode, on
    the CPU, float32).

    Raises:
        UserError: as `load_loki_and_sampling`.
    """
    return load_loki_and_sampling(path)[0]


def load_loki_and_sampling(path: Path) -> tuple[Loki, LokiSamplingConfig]:
    """The net as `load_loki` gives it, and the sampling settings of its training run.

    Raises:
        UserError: the file is missing, damaged, of another kind, does not fit this version, or was
            trained on maps of another face model.
    """
    weights = read_weights(path, LOKI)
    refuse_other_face_model(weights.face_model, path)
    sampling = restore_sampling(LokiSamplingConfig, weights.sampling, path, _SAMPLING_BEFORE)
    return build(weights, LOKI, path), sampling
