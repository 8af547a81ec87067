"""A GPU for machines without one: tensors of the CPU that count as lying on cuda:0."""

from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.weak import WeakIdKeyDictionary

GPU = torch.device("cuda", 0)
# What takes tensors of both: indices may lie on the CPU, a copy crosses over, modules ask.
MIXING = (
    Tensor.__getitem__,
    Tensor.__setitem__,
    Tensor.copy_,
    torch._has_compatible_shallow_copy_type,
)


class PretendGpu(TorchFunctionMode):
    """What is moved to cuda counts as lying there, with all that is computed from it.

    As on a GPU, an operation on tensors of both devices raises, and so does numpy. `seen` are the
    names of the operations that ran there.
    """

    def __init__(self) -> None:
        super().__init__()
        self._there = WeakIdKeyDictionary()
        self.seen: set[str] = set()

    def there(self, tensor: Tensor) -> bool:
        """Does it count as lying on the GPU?"""
        return tensor in self._there

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", str(func))
        if func == Tensor.device.__get__:
            return GPU if self.there(args[0]) else func(*args)
        if func == Tensor.is_cuda.__get__:
            return self.there(args[0])
        if func == Tensor.data.__set__:
            return self._placed(args[0], func(*args), self.there(args[1]))
        if func in (Tensor.to, Tensor.cpu):
            return self._moved(func, args, kwargs)
        given = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        here = [t for t in given if not self.there(t) and t.dim()]
        there = any(map(self.there, given))
        if there and here and func not in MIXING:
            raise RuntimeError(f"{name} of tensors on the CPU and on the GPU")
        if there and func in (Tensor.numpy, Tensor.__array__):
            raise TypeError("numpy of a tensor on the GPU: use Tensor.cpu() first")
        if "device" in kwargs and kwargs["device"] is not None and not given:
            there = torch.device(kwargs["device"]).type == "cuda"
            kwargs["device"] = "cpu" if there else kwargs["device"]
        if there and not name.startswith("__get"):
            self.seen.add(name)
        result = func(*args, **kwargs)
        if there:
            tree_map(lambda t: self._placed(t, t, True) if isinstance(t, Tensor) else t, result)
        return result

    def _moved(self, func: Any, args: Any, kwargs: Any) -> Tensor:
        own, *rest = args
        there = self.there(own)
        if func == Tensor.cpu:
            there = False
        for value in [*rest, *kwargs.values()]:
            if isinstance(value, Tensor):
                there = self.there(value)
            elif isinstance(value, torch.device) or (isinstance(value, str) and value):
                there = torch.device(value).type == "cuda"
        onto = [torch.device("cpu") if isinstance(v, str | torch.device) else v for v in rest]
        options = {k: torch.device("cpu") if k == "device" and v else v for k, v in kwargs.items()}
        result = func(own, *onto, **options)
        return self._placed(result.view_as(result) if result is own else result, None, there)

    def _placed(self, tensor: Tensor, result: Any, there: bool) -> Any:
        if there:
            self._there[tensor] = True
        elif tensor in self._there:
            del self._there[tensor]
        return tensor if result is None else result
