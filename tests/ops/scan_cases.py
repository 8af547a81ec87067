"""Scans to compare: drawn inputs of every kind, and the recurrence written out as the oracle."""

import torch
import torch.nn.functional as F
from torch import Tensor

TENSORS = ("u", "delta", "A", "B", "C", "D", "z", "delta_bias", "initial_state")


def draw(
    batch=2,
    width=4,
    state=3,
    length=7,
    B="varying",
    C="varying",
    without=(),
    dtype=torch.float64,
    device="cpu",
    seed=0,
) -> dict[str, Tensor]:
    """Inputs in `dtype`; B and C are "fixed", "varying" or a number of groups."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    def entry(kind):
        if kind == "fixed":
            return normal(width, state)
        return normal(batch, *(() if kind == "varying" else (kind,)), state, length)

    given = {
        "u": normal(batch, width, length),
        "delta": normal(batch, width, length),
        "A": -normal(width, state).exp(),
        "B": entry(B),
        "C": entry(C),
        "D": normal(width),
        "z": normal(batch, width, length),
        "delta_bias": normal(width),
        "initial_state": normal(batch, width, state),
    }
    return {
        name: tensor.to(device, dtype).requires_grad_()
        for name, tensor in given.items()
        if name not in without
    }


def oracle(given: dict[str, Tensor], softplus: bool = True) -> tuple[Tensor, Tensor]:
    """The recurrence in float64, a time step after another."""
    given = {name: tensor.double() for name, tensor in given.items()}
    u, A = given["u"], given["A"]
    batch, width, length = u.shape
    step = given["delta"]
    if "delta_bias" in given:
        step = step + given["delta_bias"][None, :, None]
    if softplus:
        step = F.softplus(step)

    def entry(tensor, t):  # (b d n)
        if tensor.ndim == 2:
            return tensor.expand(batch, -1, -1)
        tensor = tensor if tensor.ndim == 4 else tensor[:, None]
        return tensor[..., t].repeat_interleave(width // tensor.shape[1], dim=1)

    state = given.get("initial_state", u.new_zeros(batch, *A.shape))
    ys = []
    for t in range(length):
        s = step[:, :, t, None]
        state = torch.exp(s * A) * state + s * entry(given["B"], t) * u[:, :, t, None]
        y = (state * entry(given["C"], t)).sum(-1)
        if "D" in given:
            y = y + given["D"] * u[:, :, t]
        if "z" in given:
            z = given["z"][:, :, t]
            y = y * z * torch.sigmoid(z)
        ys.append(y)
    return torch.stack(ys, -1), state


def gradients(given: dict[str, Tensor], y: Tensor, last: Tensor) -> dict[str, Tensor]:
    """The gradient of every input under fixed random weights of both results."""
    generator = torch.Generator().manual_seed(1)
    score = sum(
        (
            out.double()
            * torch.randn(out.shape, generator=generator, dtype=torch.float64).to(out.device)
        ).sum()
        for out in (y, last)
    )
    assert isinstance(score, Tensor)
    names = list(given)
    return dict(zip(names, torch.autograd.grad(score, [given[n] for n in names]), strict=True))
