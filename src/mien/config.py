"""Saved dictionary -> frozen dataclass, and the checks that configs share."""

from collections.abc import Mapping
from numbers import Integral
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mien.errors import UserError, first_line

Config = TypeVar("Config")


def restore(cls: type[Config], saved: dict[str, Any]) -> Config:
    """Rebuild a frozen config from the dictionary in a checkpoint.

    Raises:
        UserError: a key is unknown, missing or of the wrong type; the message names it.
    """
    try:
        merged = OmegaConf.merge(OmegaConf.structured(cls), saved)
        return OmegaConf.to_object(merged)  # pyright: ignore[reportReturnType]
    except OmegaConfBaseException as error:
        raise UserError(f"the saved {cls.__name__} does not fit this version: {error}") from error


def restore_sampling(
    cls: type[Config],
    saved: dict[str, Any] | None,
    path: Path,
    before: Mapping[str, Any] | None = None,
) -> Config:
    """The sampling settings in a file of weights. Where it does not name them they are those of
    files written `before` they could be named, else the defaults.

    Raises:
        UserError: this version does not have them.
    """
    try:
        return restore(cls, {**(before or {}), **(saved or {})})
    except (UserError, TypeError, ValueError) as error:
        raise UserError(
            f"{path} has sampling settings that this version does not have ({first_line(error)}): "
            "use the version that trained it"
        ) from error


def require_multiple(name: str, value: int, of_name: str, of: int) -> None:
    """Raise a ValueError that names both numbers unless `value` is a multiple of `of`."""
    if of <= 0 or value % of:
        raise ValueError(f"{name} {value} is not a multiple of {of_name} {of}")


def refuse_seed(seed: object) -> None:
    """Check a random seed of a user.

    Raises:
        UserError: it is no whole number, negative, or has more than 64 bits.
    """
    if not (isinstance(seed, Integral) and 0 <= int(seed) < 2**64):
        raise UserError(
            f"the seed {seed!r} cannot be used: give a whole number, 0 or above, of at most 64 bits"
        )


def refuse_negative(**values: float) -> None:
    """Check values of a user that are factors or rates.

    Raises:
        UserError: one is negative, infinite or not a number; the message names it.
    """
    for name, value in values.items():
        if not 0 <= value < float("inf"):
            raise UserError(f"{name} {value:g} must be 0 or above")
