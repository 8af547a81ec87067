"""Group normalisation of maps, and its back ends.

Axes: b batch, c channels, h w space.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from mien.ops.back_ends import BackEnd, Operation

Normalize = Callable[[Tensor, int, Tensor, Tensor, float, bool], Tensor]
_VECTOR = 32  # bytes: torch's own loop over a pixel's channels is fast for multiples of it
PIXELS = 64  # of a map that the loop of our own takes at once; it leaves others to torch


def normalize_groups(
    x: Tensor, groups: int, weight: Tensor, bias: Tensor, eps: float, silu: bool = False
) -> Tensor:
    """`F.group_norm`, and `F.silu` of it if asked. Maps (b c h w) with channels innermost in
    memory, of a number of them that torch is slow with, are read by a loop of our own, which does
    both, where no gradient is needed.
    """
    if torch.is_grad_enabled() or torch.compiler.is_compiling() or not _is_slow(x):
        return _normalize(x, groups, weight, bias, eps, silu)
    _, normalize = NORMALIZATION.choose(x.device.type, lambda name: None)
    return normalize(x, groups, weight, bias, eps, silu)


def _is_slow(x: Tensor) -> bool:
    """Whether torch takes several times as long as memory does."""
    if not x.is_cpu or x.ndim != 4 or x.dtype not in (torch.float32, torch.bfloat16):
        return False
    odd = x.shape[1] * x.element_size() % _VECTOR > 0 and x[0, 0].numel() % PIXELS == 0
    return odd and x.is_contiguous(memory_format=torch.channels_last)


def _normalize(
    x: Tensor, groups: int, weight: Tensor, bias: Tensor, eps: float, silu: bool
) -> Tensor:
    normalized = F.group_norm(x, groups, weight, bias, eps)
    return F.silu(normalized) if silu else normalized


def _load_numba() -> Normalize:
    from mien.ops.normalization_numba import normalize_groups_numba

    return normalize_groups_numba


NORMALIZATION: Operation[Normalize] = Operation(
    "group normalisation",
    "MIEN_NORM",
    (BackEnd("numba", ("cpu",), _load_numba), BackEnd("torch", (), lambda: _normalize)),
)
