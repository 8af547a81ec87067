"""Who computes an operation: the back ends that can, in order of speed, and the choice of one.

A back end's package is imported when a computation first asks for it, never before. One that is
missing or broken is passed over, and what is wrong with it is kept, to be told by `mien doctor`.
"""

import logging
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from mien.errors import UserError

Call = TypeVar("Call", bound=Callable)
Refuse = Callable[[str], str | None]
AUTO = "auto"

_log = logging.getLogger("mien")


@dataclass(frozen=True)
class BackEnd(Generic[Call]):
    """One way to compute: `load` imports what it needs and returns the function.

    `devices` are torch's device types that it serves unasked; empty means any.
    """

    name: str
    devices: tuple[str, ...]
    load: Callable[[], Call]

    def serves(self, device: str) -> bool:
        """Is it taken unasked on such a device?"""
        return not self.devices or device in self.devices


@dataclass(frozen=True)
class Operation(Generic[Call]):
    """An operation and its back ends, fastest first; the last one always works.

    Attributes:
        what: its name in words.
        variable: the environment variable that forces a back end by name.
        back_ends: those there are.
    """

    what: str
    variable: str
    back_ends: tuple[BackEnd[Call], ...]
    _told: set[str] = field(default_factory=set)

    def choose(self, device: str, refuse: Refuse, forced: str | None = None) -> tuple[str, Call]:
        """The name and the function of the first back end that serves the device, can be imported,
        and for whose name `refuse` has no reason.

        Args:
            device: torch's device type.
            refuse: what stands against a back end for these inputs, if anything.
            forced: take this one or fail; without it, what the environment variable says.

        Raises:
            UserError: the forced one is unknown, cannot be used, or refuses the inputs.
        """
        asked = forced or os.environ.get(self.variable) or AUTO
        if asked != AUTO:
            return asked, self._forced(asked, device, refuse)
        for back_end in self.back_ends:
            if not back_end.serves(device) or refuse(back_end.name):
                continue
            call, problem = loaded(back_end)
            if call is not None:
                self._tell(f"{self.what} on {device}: {back_end.name}")
                return back_end.name, call
            self._tell(f"{self.what} goes without {back_end.name}: {problem}")
        raise AssertionError(f"no back end for {self.what} on {device}: the last must always work")

    def _forced(self, name: str, device: str, refuse: Refuse) -> Call:
        names = {back_end.name: back_end for back_end in self.back_ends}
        if name not in names:
            raise UserError(
                f"no back end {name!r} for {self.what}: choose one of {AUTO}, {', '.join(names)}"
            )
        call, problem = loaded(names[name])
        problem = problem or refuse(name)
        if call is None or problem:
            raise UserError(f"{self.what} cannot run on {name}: {problem}")
        self._tell(f"{self.what} on {device}: {name}, as asked")
        return call

    def _tell(self, line: str) -> None:
        if line not in self._told:
            self._told.add(line)
            _log.info(line)

    def problems(self) -> dict[str, str | None]:
        """For each back end what keeps it from being used here, or None."""
        return {back_end.name: loaded(back_end)[1] for back_end in self.back_ends}


_outcomes: dict[BackEnd, tuple[Any, str | None]] = {}


def loaded(back_end: BackEnd[Call]) -> tuple[Call | None, str | None]:
    """A back end's function, or what is wrong with it; it is tried once."""
    if back_end not in _outcomes:
        _outcomes[back_end] = _load(back_end)
    return _outcomes[back_end]


def _load(back_end: BackEnd[Call]) -> tuple[Call | None, str | None]:
    try:
        return back_end.load(), None
    except Unusable as error:
        return None, str(error)
    # A compiled package that was built for another torch fails in any way it likes.
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and error.name == back_end.name:
            return None, f"{back_end.name} is not installed"
        said = next(iter(str(error).splitlines()), "")
        problem = f"its import fails ({type(error).__name__}: {said})"
        warnings.warn(f"{back_end.name} is passed over: {problem}", stacklevel=5)
        return None, problem


class Unusable(Exception):
    """A back end's package is there, but this machine or these settings have no use for it."""
