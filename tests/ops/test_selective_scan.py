import sys
import warnings

import pytest
import torch
import torch.nn.functional as F

from mien.ops import selective_scan as module
from mien.ops.selective_scan import selective_scan
from mien.ops.selective_scan_reference import selective_scan_reference

NAMES = ("u", "delta", "A", "B", "C", "D", "z", "delta_bias")


def inputs(b=2, d=3, n=4, length=7, dtype=torch.float64, device="cpu"):
    draw = torch.Generator().manual_seed(0)
    shapes = [(b, d, length), (b, d, length), (d, n), (b, n, length), (b, n, length)]
    shapes += [(d,), (b, d, length), (d,)]
    tensors = [torch.randn(s, generator=draw, dtype=torch.float64) for s in shapes]
    tensors[2] = -tensors[2].exp()
    return {
        name: tensor.to(device, dtype).requires_grad_()
        for name, tensor in zip(NAMES, tensors, strict=True)
    }


def by_hand(u, delta, A, B, C, D, z, delta_bias):
    """The recurrence, one number at a time."""
    step = F.softplus(delta + delta_bias[:, None])
    y = torch.zeros_like(u)
    state = torch.zeros(u.shape[0], *A.shape, dtype=u.dtype)
    for b in range(u.shape[0]):
        for d in range(u.shape[1]):
            for t in range(u.shape[2]):
                for n in range(A.shape[1]):
                    keep = torch.exp(step[b, d, t] * A[d, n])
                    state[b, d, n] = (
                        keep * state[b, d, n].clone() + step[b, d, t] * B[b, n, t] * u[b, d, t]
                    )
                    y[b, d, t] += C[b, n, t] * state[b, d, n]
                y[b, d, t] += D[d] * u[b, d, t]
    return y * F.silu(z), state


def test_equals_the_recurrence_written_out():
    given = {name: tensor.detach() for name, tensor in inputs().items()}
    y, state = selective_scan(**given, delta_softplus=True, return_last_state=True)
    expected, last = by_hand(**given)
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(state, last)


def test_gradients_of_every_input_equal_finite_differences():
    given = inputs(b=1, d=2, n=2, length=4)
    assert torch.autograd.gradcheck(
        lambda *tensors: selective_scan(*tensors, delta_softplus=True), tuple(given.values())
    )


def test_constant_input_reaches_the_fixed_point_of_its_recurrence():
    # h = a h + step u with a = exp(-step) settles at step u / (1 - a).
    one = torch.ones(1, 1, 400, dtype=torch.float64)
    A = -torch.ones(1, 1, dtype=torch.float64)
    y = selective_scan(one * 3, one * 0.1, A, one, one)
    settled = 0.3 / (1 - torch.exp(torch.tensor(-0.1, dtype=torch.float64)))
    torch.testing.assert_close(y[0, 0, -1], settled)


def test_half_precision_is_computed_in_float32():
    given = {name: t.detach().to(torch.bfloat16) for name, t in inputs(length=50).items()}
    exact = {name: t.float() for name, t in given.items()}
    with torch.autocast("cpu", torch.bfloat16):
        y = selective_scan(**given, delta_softplus=True)
    expected = selective_scan(**exact, delta_softplus=True)
    assert y.dtype == torch.bfloat16
    # One rounding of the result to bfloat16 (8 bits), none on the way.
    torch.testing.assert_close(y.float(), expected, rtol=2**-8, atol=1e-6)


def test_a_shut_door_says_why_and_only_once(monkeypatch):
    monkeypatch.setitem(sys.modules, "mamba_ssm", None)
    module._cuda_kernel.cache_clear()
    with pytest.warns(UserWarning, match="plain torch, because mamba-ssm cannot be used"):
        assert module._cuda_kernel() is None
    with warnings.catch_warnings(action="error"):
        assert module._cuda_kernel() is None
    monkeypatch.undo()
    module._cuda_kernel.cache_clear()


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("length", [1, 64, 333])
def test_the_kernel_agrees_with_the_reference_gradients_too(length):
    pytest.importorskip("mamba_ssm", exc_type=ImportError)
    ours = inputs(d=8, n=16, length=length, dtype=torch.float32, device="cuda")
    theirs = {name: t.detach().clone().requires_grad_() for name, t in ours.items()}
    y, _ = selective_scan_reference(**ours, delta_softplus=True)
    fast = selective_scan(**theirs, delta_softplus=True)
    torch.testing.assert_close(fast, y, rtol=1e-4, atol=1e-4)  # sums in another order
    weight = torch.randn_like(y)
    (y * weight).sum().backward()
    (fast * weight).sum().backward()
    for name in NAMES:
        torch.testing.assert_close(theirs[name].grad, ours[name].grad, rtol=1e-3, atol=1e-3)
