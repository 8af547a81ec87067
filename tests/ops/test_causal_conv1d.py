import pytest
import torch
import torch.nn.functional as F

from mien.errors import UserError
from mien.ops.causal_conv1d import causal_conv1d, causal_conv1d_step, next_state


def test_taps_read_the_past_with_the_last_tap_on_the_present():
    x = torch.arange(1.0, 6)[None, None]
    weight = torch.tensor([[10.0, 1.0]])
    expected = F.silu(torch.tensor([[[1.0, 12.0, 23.0, 34.0, 45.0]]]))
    torch.testing.assert_close(causal_conv1d(x, weight, torch.zeros(1)), expected)


def test_each_channel_has_its_own_filter_and_bias():
    x = torch.ones(2, 3, 4)
    weight, bias = torch.tensor([[0.0], [1.0], [2.0]]), torch.tensor([5.0, 0.0, -1.0])
    expected = F.silu(torch.tensor([5.0, 1.0, 1.0]))[None, :, None].expand(2, 3, 4)
    torch.testing.assert_close(causal_conv1d(x, weight, bias), expected)


def test_output_before_a_change_is_untouched():
    x = torch.randn(1, 2, 9)
    later = x.clone()
    later[..., 5:] += 1
    weight, bias = torch.randn(2, 4), torch.randn(2)
    before, after = causal_conv1d(x, weight, bias), causal_conv1d(later, weight, bias)
    torch.testing.assert_close(before[..., :5], after[..., :5])
    assert not torch.allclose(before[..., 5:], after[..., 5:])


@pytest.mark.parametrize("cut", [1, 2, 3, 8])
def test_two_parts_equal_the_whole(cut):
    x, weight, bias = torch.randn(2, 3, 9), torch.randn(3, 4), torch.randn(3)
    whole = causal_conv1d(x, weight, bias)
    nothing = torch.zeros(2, 3, 3)
    one = causal_conv1d(x[..., :cut], weight, bias, initial_state=nothing)
    between = next_state(nothing, x[..., :cut])
    other = causal_conv1d(x[..., cut:], weight, bias, initial_state=between)
    torch.testing.assert_close(torch.cat((one, other), -1), whole)


def test_steps_equal_the_whole():
    x, weight, bias = torch.randn(2, 3, 9), torch.randn(3, 4), torch.randn(3)
    state, ys = torch.zeros(2, 3, 3), []
    for now in x.unbind(-1):
        y, state = causal_conv1d_step(state, now, weight, bias)
        ys.append(y)
    torch.testing.assert_close(torch.stack(ys, -1), causal_conv1d(x, weight, bias))
    torch.testing.assert_close(state, x[..., -3:])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_a_kernel_that_cannot_run_here_is_refused_with_its_reason():
    x, weight, bias = torch.randn(1, 2, 5), torch.randn(2, 4), torch.randn(2)
    with pytest.raises(UserError, match="cannot run on causal_conv1d"):
        causal_conv1d(x, weight, bias, back_end="causal_conv1d")


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_the_kernel_agrees_with_the_reference():
    pytest.importorskip("causal_conv1d", exc_type=ImportError)
    x, weight, bias = (torch.randn(s, device="cuda") for s in [(2, 8, 33), (8, 4), (8,)])
    torch.testing.assert_close(
        causal_conv1d(x, weight, bias, back_end="causal_conv1d"),
        causal_conv1d(x, weight, bias, back_end="reference"),
    )
