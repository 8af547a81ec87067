"""Nets whose weights are loaded right after are built without initial values."""

from collections.abc import Callable
from typing import Any

from torch.overrides import TorchFunctionMode


class NoInitialization(TorchFunctionMode):
    """A context in which functions of torch.nn.init that torch lets others override (uniform_,
    normal_, constant_ and kaiming_uniform_, which its layers call) leave memory as it is.

    It is for nets all of whose values are loaded next: drawing them takes most of the time to build
    one. torch's own way, to build on the meta device, imports its compiler for some operations,
    which takes over a second.
    """

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)
