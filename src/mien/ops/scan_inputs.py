"""The arguments of a selective scan, checked once, and the shapes that back ends share.

Axes are mamba-ssm's: b batch, d channels, l time, n state, g groups of channels.
"""

from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

# (step b d l, u b d l, A d n, B b g n t, C b g n t, state b d n) -> (y b d l, last state b d n),
# all of one floating type; t is l, or 1 where B or C stays the same.
Core = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class ScanInputs:
    """The arguments of `mien.ops.selective_scan.selective_scan`, where they are described."""

    u: Float[Tensor, "b d l"]
    delta: Float[Tensor, "b d l"]
    A: Float[Tensor, "d n"]
    B: Float[Tensor, "d n"] | Float[Tensor, "b n l"] | Float[Tensor, "b gB n l"]
    C: Float[Tensor, "d n"] | Float[Tensor, "b n l"] | Float[Tensor, "b gC n l"]
    D: Float[Tensor, " d"] | None
    z: Float[Tensor, "b d l"] | None
    delta_bias: Float[Tensor, " d"] | None
    delta_softplus: bool
    initial_state: Float[Tensor, "b d n"] | None

    def __post_init__(self) -> None:
        batch, width, length = self.u.shape
        if length < 1:
            raise ValueError("a scan needs at least one time step")
        if self.A.is_complex():
            raise ValueError("A is complex: this scan takes real A alone")
        state = self.A.shape[1]
        self._require("A", self.A, (width, state))
        for name in ("delta", "z"):
            self._require(name, getattr(self, name), (batch, width, length))
        for name in ("D", "delta_bias"):
            self._require(name, getattr(self, name), (width,))
        self._require("initial_state", self.initial_state, (batch, width, state))
        for name, given in (("B", self.B), ("C", self.C)):
            if given.ndim == 2:
                self._require(name, given, (width, state))
                continue
            groups = given.shape[1] if given.ndim == 4 else 1
            shape = (batch, groups, state, length)
            self._require(name, given, shape if given.ndim == 4 else (batch, state, length))
            if width % groups:
                raise ValueError(
                    f"{width} channels do not divide into the {groups} groups of {name}"
                )

    @staticmethod
    def _require(name: str, given: Tensor | None, shape: tuple[int, ...]) -> None:
        if given is not None and tuple(given.shape) != shape:
            raise ValueError(f"{name} is {tuple(given.shape)}, but must be {shape} for u and A")


def grouped(given: Tensor, batch: int) -> Float[Tensor, "b g n t"]:
    """B or C with all axes: a fixed one has one group per channel and one time step."""
    if given.ndim == 2:
        return given[None, :, :, None].expand(batch, -1, -1, -1)
    return given[:, None] if given.ndim == 3 else given
