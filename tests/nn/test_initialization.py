"""Nets built without initial values."""

import torch
from torch import nn

from mien.nn.initialization import NoInitialization


def test_nothing_is_drawn_inside_and_everything_after() -> None:
    before = torch.get_rng_state()
    with NoInitialization():
        net = nn.Sequential(nn.Linear(3, 4), nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4))
        weight = torch.zeros(5)
        assert nn.init.normal_(weight) is weight
        assert nn.init.constant_(tensor=weight, val=1.0) is weight
    assert torch.equal(before, torch.get_rng_state())
    assert weight.eq(0).all()
    assert all(value.requires_grad for value in net.parameters())
    nn.init.constant_(weight, 1.0)
    assert weight.eq(1).all()
