"""Rendering as a graph of plain tensors: what other engines than torch take.

Axes: b batch (1), t video frames, m implicit motion, h w space of a map, H W of a picture.
"""

import threading
import warnings
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from mien.engines.example import example
from mien.ops.sampling import sample_maps_torch
from mien.ops.selective_scan_doubling import LONGEST
from mien.portrait.animator import Animator
from mien.types import Guide, PreparedSource

T = torch.export.Dim("t", min=2, max=LONGEST)  # video frames
B = torch.export.Dim("b", min=2, max=1024)  # pictures


def named_tensors(value: Any, name: str) -> dict[str, Tensor]:
    """All tensors of a nest of dataclasses and tuples, by their path: `source.field.films.0`."""
    if isinstance(value, Tensor):
        return {name: value}
    if is_dataclass(value):
        parts = [(f.name, getattr(value, f.name)) for f in fields(value)]
    else:
        parts = list(enumerate(value or ()))
    found: dict[str, Tensor] = {}
    for part, inner in parts:
        found |= named_tensors(inner, f"{name}.{part}")
    return found


def with_tensors(nest: Any, tensors: Iterator[Tensor]) -> Any:
    """The same nest with other tensors, in the order of `named_tensors`."""
    if isinstance(nest, Tensor):
        return next(tensors)
    if isinstance(nest, tuple):
        return tuple(with_tensors(inner, tensors) for inner in nest)
    if nest is None:
        return None
    parts = {f.name: with_tensors(getattr(nest, f.name), tensors) for f in fields(nest)}
    return replace(nest, **parts)


def render_inputs(
    source: PreparedSource, motion: Float[Tensor, "1 t m"], guide: Guide | None
) -> dict[str, Tensor]:
    """The inputs of the graph by name, in its order."""
    return {
        **named_tensors(source, "source"),
        "motion": motion,
        **named_tensors(guide, "guide"),
    }


def some_frames(inputs: dict[str, Tensor], start: int, count: int) -> dict[str, Tensor]:
    """`count` frames of the inputs from `start` on, the last one repeated at the end; inputs of the
    source as they are.
    """
    return {
        name: x
        if name.startswith("source.")
        else _span(x, start, count, 1 if name == "motion" else 0)
        for name, x in inputs.items()
    }


def _span(x: Tensor, start: int, count: int, axis: int) -> Tensor:
    some = x.narrow(axis, start, min(count, x.shape[axis] - start))
    missing = count - some.shape[axis]
    if not missing:
        return some
    last = some.narrow(axis, some.shape[axis] - 1, 1)
    return torch.cat((some, *[last] * missing), dim=axis)


class RenderGraph(nn.Module):
    """`Animator.render_prepared` on the tensors of `render_inputs`; source and guide only say which
    there are.
    """

    def __init__(self, animator: Animator, source: PreparedSource, guide: Guide | None) -> None:
        super().__init__()
        self.animator, self._source, self._guide = animator, source, guide

    def forward(self, *tensors: Tensor) -> Float[Tensor, "t 3 H W"]:
        """Frames in [-1, 1]."""
        given = iter(tensors)
        source = with_tensors(self._source, given)
        motion = next(given)
        guide = with_tensors(self._guide, given)
        return self.animator.render_prepared(source, motion, guide)[0]


@dataclass(frozen=True)
class Graph:
    """A net of plain tensors: example inputs by name, the axes of each that may have any size (from
    2 on), and the names of its outputs.
    """

    name: str
    net: nn.Module
    inputs: dict[str, Tensor]
    axes: tuple[dict[int, Any] | None, ...]
    outputs: tuple[str, ...]

    def export(self, dynamic: bool, kept: Collection[Any] = ()) -> ExportedProgram:
        """torch's program of it, in plain forms but for the operations that are `kept`; without
        `dynamic` for the examples' sizes.
        """
        with exporting():
            return torch.export.export(
                _Positional(self.net, kept).eval(),
                tuple(tensor.contiguous() for tensor in self.inputs.values()),
                dynamic_shapes={"tensors": self.axes} if dynamic else None,
                strict=False,
            )


class _Positional(nn.Module):
    """A net in plain forms whose inputs are named by their numbers alone."""

    def __init__(self, net: nn.Module, kept: Collection[Callable]) -> None:
        super().__init__()
        self.net, self._kept = net, kept

    def forward(self, *tensors: Tensor) -> Any:
        """As the net."""
        with _PlainForms(self._kept):
            return self.net(*tensors)


class _PlainForms(TorchFunctionMode):
    """A context in which functions are computed in the forms of PLAIN_FORMS, but for those `kept`:
    rewriting the traced graph instead would double the time of an export.
    """

    def __init__(self, kept: Collection[Callable]) -> None:
        super().__init__()
        self._forms = {name: form for name, form in PLAIN_FORMS.items() if name not in kept}

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return self._forms.get(func, func)(*args, **(kwargs or {}))


def render_graph(animator: Animator, frames: int, guided: bool) -> Graph:
    """`Animator.render_prepared` for so many frames, or exported with dynamic axes for any number;
    with guides where asked for and where the animator takes them.
    """
    with exporting():
        source, motion, guide = example(animator, frames, guided)
    inputs = render_inputs(source, motion, guide)
    axes = tuple(
        {1: T} if name == "motion" else {0: T} if name.startswith("guide.") else None
        for name in inputs
    )
    return Graph("render", RenderGraph(animator, source, guide), inputs, axes, ("frames",))


_exporter = threading.RLock()  # what `exporting` sets holds for all threads


@contextmanager
def exporting() -> Iterator[None]:
    """A context in which nets are exported, by one thread at a time: in float32, without gradients,
    attention in its plain form.
    """
    with _exporter:
        fast = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            with (
                warnings.catch_warnings(
                    action="ignore", category=FutureWarning
                ),  # torch's of itself
                torch.inference_mode(False),
                torch.no_grad(),
                torch.autocast("cpu", enabled=False),
            ):
                yield
        finally:
            torch.backends.mha.set_fastpath_enabled(fast)


def _interpolated(x: Tensor, size: Any = None, mode: str = "nearest", **options: Any) -> Tensor:
    """Bilinear interpolation to a size as products with two matrices, which engines compute much
    faster; any other is torch's own.
    """
    if mode != "bilinear" or size is None or any(options.values()):
        return F.interpolate(x, size, mode=mode, **options)
    size = (size, size) if isinstance(size, int) else size
    rows, columns = (_interpolation(n, m, x) for n, m in zip(x.shape[2:], size, strict=True))
    return rows @ (x @ columns.mT)


def _interpolation(before: int, after: int, like: Tensor) -> Float[Tensor, "m n"]:
    """The matrix that interpolates `before` values to `after`."""
    numbers = torch.arange(after, dtype=like.dtype, device=like.device)
    places = ((numbers + 0.5) * (before / after) - 0.5).clamp(0, before - 1)
    cells = torch.arange(before, dtype=like.dtype, device=like.device)
    return (1 - (places[:, None] - cells).abs()).clamp(min=0)


def _pooled(x: Tensor, size: int | tuple[int, ...]) -> Tensor:
    """Means over whole cells, which adaptive pooling means wherever mien uses it."""
    size = (size,) * (x.dim() - 2) if isinstance(size, int) else size
    cell = [n // m for n, m in zip(x.shape[2:], size, strict=True)]
    if [n * m for n, m in zip(cell, size, strict=True)] != list(x.shape[2:]):
        raise NotImplementedError("a map that is not a whole number of cells")
    for axis, n in enumerate(cell, start=2):  # faster than pooling, which pads a single channel
        x = x.unflatten(axis, (-1, n)).mean(axis + 1)
    return x


def _lerp(start: Tensor, end: Tensor, weight: Tensor) -> Tensor:
    return start + weight * (end - start)


# Functions that nets call, in a form that engines have, or compute faster.
PLAIN_FORMS: dict[Callable, Callable[..., Tensor]] = {
    F.interpolate: _interpolated,
    F.adaptive_avg_pool2d: _pooled,
    F.adaptive_avg_pool3d: _pooled,
    torch.lerp: _lerp,
    Tensor.lerp: _lerp,
    torch.ops.mien.sample_maps: sample_maps_torch,
}
KERNELS = (torch.ops.mien.sample_maps,)  # for engines that call mien's own
