"""Back end selection: candidate implementations of an operation, fastest first.

A back end's package is imported when a computation first needs it, never before. One that is
missing or broken is skipped, and the reason is kept for `mien doctor`.
"""

import logging
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from mien.errors import EXTRAS, UserError

Call = TypeVar("Call", bound=Callable)
Refuse = Callable[[str], str | None]
AUTO = "auto"

_log = logging.getLogger("mien")


@dataclass(frozen=True)
class BackEnd(Generic[Call]):
    """One implementation: `load` imports what it needs and returns the function.

    `devices` are torch's device types on which it is chosen automatically; empty means any.
    """

    name: str
    devices: tuple[str, ...]
    load: Callable[[], Call]

    def serves(self, device: str) -> bool:
        """Whether it is chosen automatically on such a device."""
        return not self.devices or device in self.devices


@dataclass(frozen=True)
class Operation(Generic[Call]):
    """An operation and its back ends, fastest first; the last one always works.

    Attributes:
        what: its name in words.
        variable: the environment variable that forces a back end by name.
        back_ends: the candidates.
    """

    what: str
    variable: str
    back_ends: tuple[BackEnd[Call], ...]
    _logged: set[str] = field(default_factory=set)

    def choose(self, device: str, refuse: Refuse, forced: str | None = None) -> tuple[str, Call]:
        """The name and the function of the first back end that serves the device, can be imported,
        and is not refused.

        Args:
            device: torch's device type.
            refuse: from a back end's name, the reason why it cannot take these inputs, or None.
            forced: use this one or fail; without it, the one that the environment variable names.

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
                self._log_once(f"{self.what} on {device}: {back_end.name}")
                return back_end.name, call
            self._log_once(f"{self.what}: {back_end.name} is skipped: {problem}")
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
        self._log_once(f"{self.what} on {device}: {name}, as asked")
        return call

    def _log_once(self, line: str) -> None:
        if line not in self._logged:
            self._logged.add(line)
            _log.info(line)

    def problems(self) -> dict[str, str | None]:
        """For each back end the reason why it cannot be used here, or None."""
        return {back_end.name: loaded(back_end)[1] for back_end in self.back_ends}


_outcomes: dict[BackEnd, tuple[Any, str | None]] = {}


def loaded(back_end: BackEnd[Call]) -> tuple[Call | None, str | None]:
    """A back end's function, or the reason why it cannot be loaded; it is tried once."""
    if back_end not in _outcomes:
        _outcomes[back_end] = _load(back_end)
    return _outcomes[back_end]


def _load(back_end: BackEnd[Call]) -> tuple[Call | None, str | None]:
    try:
        return back_end.load(), None
    except Unusable as error:
        return None, str(error)
    # A compiled package that was built for another torch may raise any exception.
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and error.name == back_end.name:
            extra = EXTRAS.get(back_end.name)
            how = f' (pip install "mien[{extra}]")' if extra else ""
            return None, f"{back_end.name} is not installed{how}"
        said = next(iter(str(error).splitlines()), "")
        problem = f"its import fails ({type(error).__name__}: {said})"
        warnings.warn(f"{back_end.name} is skipped: {problem}", stacklevel=5)
        return None, problem


class Unusable(Exception):
    """A back end's package is installed but cannot be used on this machine or as it is set up."""
