"""Depthwise causal convolution along time: the short filter in front of Mamba's scan.

Axes are causal-conv1d's: b batch, d channels, l time, k taps. CUDA tensors go to its kernel where
it can be imported; everything else goes to the reference.
"""

import functools
import warnings
from collections.abc import Callable

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def causal_conv1d(
    x: Float[Tensor, "b d l"], weight: Float[Tensor, "d k"], bias: Float[Tensor, " d"]
) -> Float[Tensor, "b d l"]:
    """Filter each channel with its own `k` taps, the last tap on the present step, then SiLU."""
    kernel = _cuda_kernel() if x.is_cuda else None
    if kernel is not None:
        return kernel(x, weight, bias, activation="silu")
    return causal_conv1d_reference(x, weight, bias)


def causal_conv1d_reference(
    x: Float[Tensor, "b d l"], weight: Float[Tensor, "d k"], bias: Float[Tensor, " d"]
) -> Float[Tensor, "b d l"]:
    """The definition of `causal_conv1d`, in plain torch on any device."""
    d, taps = weight.shape
    return F.silu(F.conv1d(F.pad(x, (taps - 1, 0)), weight[:, None], bias, groups=d))


@functools.cache
def _cuda_kernel() -> Callable | None:
    """The one door to causal-conv1d; says once why the door is shut."""
    try:
        from causal_conv1d import causal_conv1d_fn  # pyright: ignore
    except ImportError as error:
        warnings.warn(
            f"the causal convolution runs in plain torch, because causal-conv1d cannot be used: "
            f"{error}",
            stacklevel=3,
        )
        return None
    return causal_conv1d_fn
