"""Rates are closed forms of the step, and bad gradients do no harm."""

import pytest
import torch
from torch import nn

from mien.errors import UserError
from mien.nn.mamba import MambaBlock
from mien.training.optimization import (
    OptimizerConfig,
    clip_gradients,
    decay_groups,
    rate_at,
    refuse_float16,
    set_rate,
)

CONFIG = OptimizerConfig(learning_rate=1.0, warmup_steps=10, decay_steps=100, final_share=0.1)


def test_rate_warms_up_and_follows_the_cosine():
    assert rate_at(0, CONFIG) == pytest.approx(0.1)
    assert rate_at(50, CONFIG) == pytest.approx(0.55)  # half way between 1 and `final_share`
    assert rate_at(100, CONFIG) == rate_at(10_000, CONFIG) == pytest.approx(0.1)
    rates = [rate_at(step, CONFIG) for step in range(10, 101)]
    assert rates == sorted(rates, reverse=True)


def test_rate_stays_without_decay():
    constant = OptimizerConfig(learning_rate=3.0, warmup_steps=4)
    assert [rate_at(s, constant) for s in (0, 3, 10**6)] == pytest.approx([0.75, 3.0, 3.0])


def test_set_rate_reaches_every_group():
    groups = [{"params": [nn.Parameter(torch.ones(1))]} for _ in range(2)]
    optimizer = torch.optim.SGD(groups, lr=1.0)
    set_rate(optimizer, 0.25)
    assert [group["lr"] for group in optimizer.param_groups] == [0.25, 0.25]


def test_large_gradients_are_scaled_down_and_their_norm_is_told():
    net = nn.Linear(3, 2)
    for parameter in net.parameters():
        parameter.grad = torch.full_like(parameter, 5.0)
    norm = clip_gradients(net.parameters(), 1.0)
    assert float(norm) == pytest.approx(5 * 8**0.5)
    left = torch.stack([p.grad.square().sum() for p in net.parameters()]).sum().sqrt()  # pyright: ignore
    assert float(left) == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_step_with_a_bad_gradient_changes_nothing(bad: float):
    net = nn.Linear(3, 2)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.1)

    def step(value: float) -> None:
        for parameter in net.parameters():
            parameter.grad = torch.full_like(parameter, value)
        clip_gradients(net.parameters(), 1.0)
        optimizer.step()

    step(1.0)  # momentum that would go on by itself
    before = [p.clone() for p in net.parameters()]
    moments = [s["exp_avg"].clone() for s in optimizer.state.values()]
    step(bad)
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))
    after = [s["exp_avg"] for s in optimizer.state.values()]
    assert all(torch.equal(a, b) for a, b in zip(moments, after, strict=True))


def test_scan_parameters_and_vectors_do_not_decay():
    net = MambaBlock(16, 4)
    decayed, free = decay_groups(net, 0.1)
    names = {id(parameter): name for name, parameter in net.named_parameters()}
    held = {names[id(parameter)] for parameter in free["params"]}
    assert {"A_log", "D", "dt_proj.bias", "conv1d.bias"} <= held
    assert "in_proj.weight" in {names[id(parameter)] for parameter in decayed["params"]}
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.1, 0.0)
    assert len(names) == len(decayed["params"]) + len(free["params"])


def test_float16_is_refused():
    for precision in ("32-true", "bf16-mixed", "64-true"):
        refuse_float16(precision)
    with pytest.raises(UserError, match="16-mixed"):
        refuse_float16("16-mixed")
    with pytest.raises(UserError, match="bf16-true"):
        refuse_float16("bf16-true")
