"""Depthwise causal convolution along time: the short filter in front of Mamba's scan.

Axes are causal-conv1d's: b batch, d channels, l time, k kernel; p the k - 1 inputs before.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from mien.ops.back_ends import BackEnd, Operation

Filter = Callable[[Tensor, Tensor, Tensor], Tensor]


def causal_conv1d(
    x: Float[Tensor, "b d l"],
    weight: Float[Tensor, "d k"],
    bias: Float[Tensor, " d"],
    *,
    initial_state: Float[Tensor, "b d p"] | None = None,
    back_end: str | None = None,
) -> Float[Tensor, "b d l"]:
    """Convolve each channel with its own kernel, the last weight on the current step, then SiLU.

    Args:
        x: the input.
        weight: the kernel.
        bias: added to the convolution's output.
        initial_state: the k - 1 inputs before the first (zeros without it); `next_state` gives
            them for the part that follows.
        back_end: reference or causal_conv1d; without it, what MIEN_CONV1D names, or else the
            fastest that works for these inputs here.

    Raises:
        UserError: the requested back end cannot take these inputs.
    """

    def refuse(name: str) -> str | None:
        if name != "causal_conv1d":
            return None
        if not x.is_cuda:
            return f"it runs on CUDA, and the inputs are on {x.device}"
        if x.dtype == torch.float64:
            return "it computes in float32, and the inputs are float64"
        if not 2 <= weight.shape[1] <= 4:
            return f"it takes kernels of 2 to 4, not of {weight.shape[1]}"
        return None

    _, filtered = CAUSAL_CONV1D.choose(x.device.type, refuse, back_end)
    if initial_state is None:
        return filtered(x, weight, bias)
    return filtered(torch.cat((initial_state.to(x.dtype), x), dim=-1), weight, bias)[
        ..., initial_state.shape[-1] :
    ]


def causal_conv1d_step(
    state: Float[Tensor, "b d p"],
    x: Float[Tensor, "b d"],
    weight: Float[Tensor, "d k"],
    bias: Float[Tensor, " d"],
) -> tuple[Float[Tensor, "b d"], Float[Tensor, "b d p"]]:
    """One time step of `causal_conv1d`: the output, and the state for the next step."""
    joined = torch.cat((state.to(x.dtype), x[..., None]), dim=-1)
    return F.silu((joined * weight).sum(-1) + bias), joined[..., 1:]


def next_state(state: Float[Tensor, "b d p"], x: Float[Tensor, "b d l"]) -> Float[Tensor, "b d p"]:
    """The state for the next part: the last k - 1 inputs up to the end of `x`."""
    joined = torch.cat((state.to(x.dtype), x), dim=-1)
    return joined[..., joined.shape[-1] - state.shape[-1] :].clone()  # a view would keep all of x


def causal_conv1d_reference(
    x: Float[Tensor, "b d l"], weight: Float[Tensor, "d k"], bias: Float[Tensor, " d"]
) -> Float[Tensor, "b d l"]:
    """The definition of `causal_conv1d`, in plain torch on any device."""
    d, kernel = weight.shape
    return F.silu(F.conv1d(F.pad(x, (kernel - 1, 0)), weight[:, None], bias, groups=d))


def _load_causal_conv1d() -> Filter:
    from causal_conv1d import causal_conv1d_fn  # pyright: ignore

    def filtered(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        # It would take channels-last input too, but then only in multiples of eight channels.
        given = x.contiguous(), weight.to(x.dtype), bias.to(x.dtype)
        return causal_conv1d_fn(*given, activation="silu")

    return filtered


CAUSAL_CONV1D: Operation[Filter] = Operation(
    "the causal convolution",
    "MIEN_CONV1D",
    (
        BackEnd("causal_conv1d", ("cuda",), _load_causal_conv1d),
        BackEnd("reference", (), lambda: causal_conv1d_reference),
    ),
)
