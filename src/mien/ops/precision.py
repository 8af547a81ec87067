"""What stays in float32 under autocast: positions in pictures, the motion space, and losses.

bfloat16 has eight significant bits: it resolves a position in a picture of 256 pixels to half a
pixel.
"""

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

P = ParamSpec("P")
R = TypeVar("R")

_NARROW = (torch.bfloat16, torch.float16)


def full_precision(function: Callable[P, R]) -> Callable[P, R]:
    """Decorator: the function computes without autocast, its 16-bit inputs cast to float32.

    Outside autocast the function is left as it is.
    """

    @functools.wraps(function)
    def computed(*args: P.args, **kwargs: P.kwargs) -> R:
        device = next((t.device.type for t in _tensors((*args, *kwargs.values()))), "cpu")
        if not torch.amp.is_autocast_available(device) or not torch.is_autocast_enabled(device):
            return function(*args, **kwargs)
        given: Any = functools.partial(function, *map(widened, args))
        with torch.autocast(device, enabled=False):
            return given(**{name: widened(a) for name, a in kwargs.items()})

    return computed


def widened(value: Any) -> Any:
    """Tensors of 16 bits as float32, also those in dataclasses, tuples, lists and dictionaries;
    all else as it is.
    """
    if isinstance(value, Tensor):
        return value.float() if value.dtype in _NARROW else value
    if is_dataclass(value) and not isinstance(value, type):
        inner = {f.name: getattr(value, f.name) for f in fields(value)}
        changed = {name: widened(part) for name, part in inner.items()}
        same = all(changed[name] is inner[name] for name in inner)
        return value if same else replace(value, **changed)
    if isinstance(value, tuple | list):
        changed = [widened(part) for part in value]
        same = all(a is b for a, b in zip(changed, value, strict=True))
        return value if same else type(value)(changed)
    if isinstance(value, Mapping):
        return {name: widened(part) for name, part in value.items()}
    return value


def _tensors(value: Any) -> Iterator[Tensor]:
    """All tensors in a nest of values, in order."""
    if isinstance(value, Tensor):
        yield value
    elif is_dataclass(value) and not isinstance(value, type):
        for f in fields(value):
            yield from _tensors(getattr(value, f.name))
    elif isinstance(value, tuple | list):
        for part in value:
            yield from _tensors(part)
    elif isinstance(value, Mapping):
        yield from _tensors(list(value.values()))
