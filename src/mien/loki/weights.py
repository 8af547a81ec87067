"""The kind of weights that Loki's are (`mien.kinds`), and the face model they are bound to."""

from pathlib import Path
from typing import Any

from mien.config import restore
from mien.errors import UserError, first_line
from mien.face_model.parametric import OFFSET_DEVIATION, face_model_fingerprint
from mien.kinds import Kind, build, read_weights, register
from mien.loki.config import LokiConfig
from mien.loki.net import Loki
from mien.loki.sampling import LokiSamplingConfig

LOKI = register(Kind("loki", LokiConfig, Loki, "loki"))

SHIPPED = Path(__file__).parents[1] / "weights" / "loki.safetensors"

# The face model of files that do not say on which they were trained.
_BEFORE = {"fingerprint": "8025aeabfe5df721", "offset_deviation": 0.124}


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
    try:
        sampling = restore(LokiSamplingConfig, weights.sampling or {})
    except (UserError, TypeError, ValueError) as error:
        raise UserError(
            f"{path} has sampling settings that this version does not have ({first_line(error)}): "
            "use the version that trained it"
        ) from error
    return build(weights, LOKI, path), sampling
