"""The selective scan of Mamba: one public function, and the choice of who computes it.

Axes and names are mamba-ssm's: b batch, d channels, l time, n state. CUDA tensors go to the
mamba-ssm kernel where it can be imported; everything else goes to the reference.
"""

import functools
import warnings
from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor

from mien.ops.selective_scan_reference import selective_scan_reference


def selective_scan(
    u: Float[Tensor, "b d l"],
    delta: Float[Tensor, "b d l"],
    A: Float[Tensor, "d n"],
    B: Float[Tensor, "b n l"],
    C: Float[Tensor, "b n l"],
    D: Float[Tensor, " d"] | None = None,
    z: Float[Tensor, "b d l"] | None = None,
    delta_bias: Float[Tensor, " d"] | None = None,
    delta_softplus: bool = False,
    return_last_state: bool = False,
) -> Float[Tensor, "b d l"] | tuple[Float[Tensor, "b d l"], Float[Tensor, "b d n"]]:
    """Scan `u` with the input-dependent recurrence; `z` gates the result by silu(z).

    See `selective_scan_reference` for the equations. With `return_last_state` the state after the
    last step comes second.
    """
    kernel = _cuda_kernel() if u.is_cuda else None
    if kernel is not None:
        return kernel(u, delta, A, B, C, D, z, delta_bias, delta_softplus, return_last_state)
    y, state = selective_scan_reference(u, delta, A, B, C, D, z, delta_bias, delta_softplus)
    return (y, state) if return_last_state else y


@functools.cache
def _cuda_kernel() -> Callable | None:
    """The one door to mamba-ssm; says once why the door is shut."""
    try:
        from mamba_ssm.ops.selective_scan_interface import (  # pyright: ignore[reportMissingImports]
            selective_scan_fn,
        )
    except ImportError as error:
        warnings.warn(
            f"the selective scan runs in plain torch, because mamba-ssm cannot be used: {error}",
            stacklevel=3,
        )
        return None
    return selective_scan_fn
