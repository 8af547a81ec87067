import os
import subprocess
import sys
from importlib.util import find_spec

import pytest
import torch
import torch.nn.functional as F

from mien.nn.mamba import BidirectionalMamba, MambaBlock, reverse_within
from mien.ops.selective_scan import selective_scan
from tests.ops.scan_cases import draw, gradients
from tests.tools import load_tool


def test_parameters_have_the_names_and_shapes_of_mamba_ssm():
    shapes = {name: tuple(p.shape) for name, p in MambaBlock(32, state=16).named_parameters()}
    assert shapes == {
        "A_log": (64, 16),
        "D": (64,),
        "in_proj.weight": (128, 32),
        "conv1d.weight": (64, 1, 4),
        "conv1d.bias": (64,),
        "x_proj.weight": (2 + 32, 64),
        "dt_proj.weight": (64, 2),
        "dt_proj.bias": (64,),
        "out_proj.weight": (32, 64),
    }


def test_memory_starts_as_the_paper_says():
    block = MambaBlock(64)
    torch.testing.assert_close(block.A_log.exp()[5], torch.arange(1.0, 17))
    dt = F.softplus(block.dt_proj.bias)
    assert dt.min() >= 0.99e-3 and dt.max() <= 0.101
    assert (dt < 1e-2).float().mean().item() > 0.3  # log-uniform: half lies below 1e-2
    marked = {n for n, p in block.named_parameters() if getattr(p, "_no_weight_decay", False)}
    assert marked == {"A_log", "D", "dt_proj.bias"}


def test_a_block_does_not_hear_the_future():
    block = MambaBlock(8)
    now = torch.randn(1, 12, 8)
    later = now.clone()
    later[:, 7:] += 1
    torch.testing.assert_close(block(now)[:, :7], block(later)[:, :7])
    assert not torch.allclose(block(now)[:, 7:], block(later)[:, 7:])


def test_both_directions_hear_everything():
    net = BidirectionalMamba(8)
    sequence = torch.randn(1, 10, 8, requires_grad=True)
    net(sequence, torch.tensor([10]))[0, 4].sum().backward()
    assert sequence.grad is not None
    assert (sequence.grad[0].abs().sum(-1) > 0).all()


def test_with_equal_halves_time_reversed_in_is_time_reversed_out():
    net = BidirectionalMamba(8)
    net.backward_in_time.load_state_dict(net.forward_in_time.state_dict())
    sequence, lengths = torch.randn(2, 9, 8), torch.tensor([9, 6])
    result = net(reverse_within(sequence, lengths), lengths)
    expected = reverse_within(net(sequence, lengths), lengths)
    torch.testing.assert_close(result[0], expected[0])
    torch.testing.assert_close(result[1, :6], expected[1, :6])


def test_reversal_stays_within_each_length():
    sequence = torch.arange(5.0)[None, :, None].repeat(2, 1, 1)
    reversed_ = reverse_within(sequence, torch.tensor([3, 5]))[..., 0]
    torch.testing.assert_close(
        reversed_, torch.tensor([[2.0, 1.0, 0.0, 3.0, 4.0], [4.0, 3.0, 2.0, 1.0, 0.0]])
    )


def test_padding_changes_nothing():
    net = BidirectionalMamba(8)
    short = torch.randn(1, 6, 8)
    padded = torch.cat([short, 100 * torch.randn(1, 4, 8)], dim=1)
    alone = net(short, torch.tensor([6]))
    torch.testing.assert_close(net(padded, torch.tensor([6]))[:, :6], alone)


def test_every_parameter_gets_a_gradient():
    net = BidirectionalMamba(8)
    net(torch.randn(2, 6, 8), torch.tensor([6, 4])).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())


class TestStreaming:
    def test_steps_and_parts_equal_the_whole(self):
        block = MambaBlock(8)
        sequence = torch.randn(2, 11, 8)
        whole = block(sequence)
        state, steps = None, []
        for now in sequence.unbind(1):
            y, state = block.step(now, state)
            steps.append(y)
        torch.testing.assert_close(torch.stack(steps, 1), whole)
        one, between = block.stream(sequence[:, :5], None)
        other, last = block.stream(sequence[:, 5:], between)
        torch.testing.assert_close(torch.cat((one, other), 1), whole)
        torch.testing.assert_close(last.scan, state.scan)
        torch.testing.assert_close(last.conv, state.conv)

    def test_double_precision_stays_double(self):
        block, sequence = MambaBlock(8).double(), torch.randn(2, 11, 8, dtype=torch.float64)
        one, between = block.stream(sequence[:, :5], None)
        other, last = block.stream(sequence[:, 5:], between)
        assert last.scan.dtype == torch.float64
        whole = block(sequence)
        torch.testing.assert_close(torch.cat((one, other), 1), whole, rtol=1e-12, atol=1e-12)

    def test_what_is_remembered_does_not_grow(self):
        block = MambaBlock(8)
        with torch.no_grad():
            _, early = block.stream(torch.randn(1, 3, 8), None)
            _, late = block.stream(torch.randn(1, 500, 8), early)
        assert early.conv.shape == late.conv.shape == (1, 16, 3)
        assert early.scan.shape == late.scan.shape == (1, 16, 16)
        # A view of the sequence would keep all of it alive.
        assert late.conv.untyped_storage().nbytes() == 4 * 16 * 3


def test_half_precision_keeps_the_scan_in_float32():
    block = MambaBlock(16)
    sequence = torch.randn(2, 200, 16)
    with torch.autocast("cpu", torch.bfloat16):
        half = block(sequence)
        parts, _ = block.stream(sequence, None)
        state, steps = None, []
        for now in sequence.unbind(1):
            y, state = block.step(now, state)
            steps.append(y)
    whole = block(sequence)
    half.float().square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in block.parameters())
    assert state.scan.dtype == torch.float32
    # The projections around the scan are bfloat16 (8 bits); over 200 steps nothing piles up.
    for given in (half, parts, torch.stack(steps, 1)):
        error = (given.float() - whole).abs().max() / whole.abs().max()
        assert given.dtype == torch.bfloat16
        assert error < 0.03


class TestOtherImplementations:
    """Their weights are loaded into ours and ours into theirs; both must say the same."""

    @pytest.fixture
    def theirs(self):
        transformers = pytest.importorskip("transformers")
        from transformers.models.mamba.modeling_mamba import MambaMixer

        config = transformers.MambaConfig(hidden_size=32, state_size=16, num_hidden_layers=1)
        return MambaMixer(config, layer_idx=0)

    def test_the_mixer_of_transformers(self, theirs):
        ours = MambaBlock(32)
        sequence = torch.randn(2, 19, 32)
        ours.load_state_dict(theirs.state_dict())
        torch.testing.assert_close(ours(sequence), theirs(sequence), rtol=1e-4, atol=1e-5)
        fresh = MambaBlock(32)
        theirs.load_state_dict(fresh.state_dict())
        torch.testing.assert_close(fresh(sequence), theirs(sequence), rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("kinds", [{}, {"B": "fixed"}, {"B": 2, "C": 2}], ids=str)
    @pytest.mark.parametrize("without", [(), ("z",), ("D", "delta_bias")], ids=str)
    def test_the_loop_of_mamba_ssm(self, kinds, without):
        loop = load_tool("benchmark_scan").upstream_loop()
        if loop is None:
            pytest.skip("mamba_ssm is not installed")
        without = (*without, "initial_state")
        inputs = draw(length=33, dtype=torch.float32, without=without, **kinds)
        ours = selective_scan(**inputs, delta_softplus=True, return_last_state=True)
        theirs = loop(inputs | {"return_last_state": True})
        for one, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
        actual, wanted = gradients(inputs, *ours), gradients(inputs, *theirs)
        for name in inputs:  # float32 on both sides, over 33 steps
            torch.testing.assert_close(actual[name], wanted[name], rtol=1e-3, atol=1e-4)

    def test_the_block_of_mamba_ssm(self):
        """In a process of its own: unbuilt, it needs stand-ins for its compiled parts."""
        code = """
import sys, types
import torch
for name in ("selective_scan_cuda", "causal_conv1d_cuda"):
    sys.modules[name] = types.ModuleType(name)
sys.modules["causal_conv1d"] = None
from mamba_ssm.modules import mamba_simple
from mamba_ssm.ops.selective_scan_interface import selective_scan_ref
mamba_simple.selective_scan_fn = selective_scan_ref
from mien.nn.mamba import MambaBlock
torch.manual_seed(0)
theirs, ours = mamba_simple.Mamba(32, use_fast_path=False), MambaBlock(32)
sequence = torch.randn(2, 19, 32)
for one, other in ((theirs, ours), (MambaBlock(32), theirs)):
    other.load_state_dict(one.state_dict())
    torch.testing.assert_close(other(sequence), one(sequence), rtol=1e-4, atol=1e-5)
"""
        if find_spec("mamba_ssm") is None:
            pytest.skip("mamba_ssm is not installed")
        settings = os.environ | {"MIEN_SCAN": "reference"}
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=settings
        )
        assert done.returncode == 0, done.stderr
