"""Bilinear sampling of maps at any positions, and its back ends.

Axes: n maps, b grids of positions, c channels, h1 w1 space of the maps, h2 w2 of the result.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from mien.ops.back_ends import BackEnd, Operation

Sample = Callable[[Tensor, Tensor], Tensor]
PLANES = 3  # channels at most that the compiled loop samples as planes


def sample_maps(maps: Tensor, places: Tensor) -> Tensor:
    """Sample maps (n c h1 w1) at places (b h2 w2 2), b a multiple of n: grid i reads map i % n. So
    one map, read by all, need not be repeated.

    Positions are normalised, x before y, as in `grid_sample` with align_corners=False; outside of a
    map its border continues.
    """
    if torch.compiler.is_exporting():
        return torch.ops.mien.sample_maps(maps, places)
    if torch.compiler.is_compiling():
        return sample_maps_torch(maps, places)
    _, sample = SAMPLING.choose(maps.device.type, lambda name: _refusal(name, maps, places))
    return sample(maps, places)


def is_compiled(*tensors: Tensor) -> bool:
    """Whether sampling of such tensors is the compiled loop, so that others built on it may run."""
    if torch.compiler.is_exporting() or torch.compiler.is_compiling():
        return False
    device = tensors[0].device.type
    return SAMPLING.choose(device, lambda name: _refusal(name, *tensors))[0] == "numba"


def sample_maps_torch(maps: Tensor, places: Tensor) -> Tensor:
    """The definition, which has gradients and runs on any device."""
    n, b, rows = maps.shape[0], places.shape[0], places.shape[1]  # of graphs b can be a symbol
    if n == b:
        return F.grid_sample(maps, places, padding_mode="border", align_corners=False)
    below = places.unflatten(0, (b // n, n)).transpose(0, 1).flatten(1, 2)  # grids below each other
    sampled = F.grid_sample(maps, below, padding_mode="border", align_corners=False)
    return sampled.unflatten(2, (b // n, rows)).permute(2, 0, 1, 3, 4).flatten(0, 1)


def _refusal(name: str, *tensors: Tensor) -> str | None:
    """Why a back end cannot take these inputs, or None."""
    if name != "numba":
        return None
    if not all(x.is_cpu and x.dtype == torch.float32 for x in tensors):
        return "it samples float32 on the CPU"
    if torch.is_grad_enabled() and any(x.requires_grad for x in tensors):
        return "it has no gradient"
    return None


def _load_numba() -> Sample:
    from mien.ops.sampling_numba import sample_maps_numba

    return sample_maps_numba


SAMPLING: Operation[Sample] = Operation(
    "sampling of maps",
    "MIEN_SAMPLING",
    (
        BackEnd("numba", ("cpu",), _load_numba),
        BackEnd("torch", (), lambda: sample_maps_torch),
    ),
)


@torch.library.custom_op("mien::sample_maps", mutates_args=())
def _sample_maps_in_graphs(maps: Tensor, places: Tensor) -> Tensor:
    """In exported graphs one operation, for which each engine has its own form."""
    return sample_maps_torch(maps, places).clone()


@_sample_maps_in_graphs.register_fake
def _(maps: Tensor, places: Tensor) -> Tensor:
    b, h2, w2, _ = places.shape
    return maps.new_empty(b, maps.shape[1], h2, w2)
