"""The average must follow a young run and smooth an old one."""

import pytest
from torch import nn
from torch.optim.swa_utils import AveragedModel

from mien.training.averaging import WarmedUpAverage


def averaged(values: list[float], decay: float) -> float:
    net = nn.Linear(1, 1, bias=False)
    model = AveragedModel(net, **WarmedUpAverage(decay)._kwargs)
    for value in values:
        nn.init.constant_(net.weight, value)
        model.update_parameters(net)
    return model.module.weight.item()


def test_untrained_weights_are_soon_forgotten():
    assert averaged([1.0] + [0.0] * 700, 0.999) < 1e-6


def test_an_old_run_is_averaged_with_its_decay():
    old = [0.0] * 10_000
    assert averaged([*old, 1.0], 0.99) == pytest.approx(0.01, rel=1e-3)
    assert averaged([*old, *[1.0] * 69], 0.99) == pytest.approx(0.5, abs=0.01)


def test_equal_weights_stay_equal():
    assert averaged([0.25] * 50, 0.9) == 0.25
