import sys

import pytest
import torch

from mien.errors import UserError
from mien.ops.warp import identity_grid
from mien.portrait.motion_encoder import AttentionPooling, MotionEncoder, token_positions
from tests.portrait.tiny import pictures, tiny_animator

NAME = "test_convnext"  # timm's own smallest ConvNeXt


@pytest.fixture
def timm():
    import mien  # noqa: F401  (repairs a torchvision that was built for another torch)

    return pytest.importorskip("timm", reason="timm is not installed (the extra `pretrained`)")


def test_a_timm_backbone_reads_motion_and_learns(timm):
    animator = tiny_animator(motion_backbone=NAME)
    motion = animator.encode_motion(pictures(2))
    assert motion.shape == (2, 768)
    motion.square().sum().backward()
    body = animator.motion_encoder.body
    assert any(p.grad is not None and p.grad.abs().max() > 0 for p in body.parameters())


@pytest.mark.parametrize("side", [2, 16])  # a backbone's last map, and the own net's
def test_tokens_find_what_they_look_for_on_a_coarse_map_as_on_a_fine_one(side):
    pool = AttentionPooling(channels=1, side=8, numbers=12)
    torch.nn.init.constant_(pool.score.weight, 1000.0)
    seen = torch.zeros(1, 1, side, side)
    seen[0, 0, -1, 0] = 1
    places = token_positions(pool(seen))
    corner = identity_grid(side, side, like=seen)[-1, 0]
    torch.testing.assert_close(places, corner.expand_as(places))


def test_pretrained_weights_come_in_only_when_asked(timm, monkeypatch):
    torch.manual_seed(0)
    encoder = MotionEncoder(64, (), (), 0, NAME)
    torch.manual_seed(1)
    trained = timm.create_model(NAME, pretrained=False, num_classes=0, global_pool="")
    asked = []

    def hub(name, pretrained, **settings):
        asked.append((name, pretrained))
        return trained

    monkeypatch.setattr(timm, "create_model", hub)
    encoder.load_pretrained()
    assert asked == [(NAME, True)]
    for name, value in trained.state_dict().items():
        torch.testing.assert_close(encoder.body.state_dict()[name], value)


def test_an_unknown_backbone_is_named(timm):
    with pytest.raises(UserError, match="no_such_net"):
        MotionEncoder(64, (), (), 0, "no_such_net")


def test_weights_that_cannot_be_fetched_are_told_in_one_sentence(timm, monkeypatch):
    encoder = MotionEncoder(64, (), (), 0, NAME)

    def hub(*names, **settings):
        raise OSError("no way to the hub")

    monkeypatch.setattr(timm, "create_model", hub)
    with pytest.raises(UserError, match="no way to the hub"):
        encoder.load_pretrained()


def test_without_timm_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UserError, match="mien\\[pretrained\\]"):
        MotionEncoder(64, (), (), 0, NAME)


def test_without_a_backbone_nothing_is_fetched(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    MotionEncoder(64, (8, 8, 8), (1, 1, 1), 8, None).load_pretrained()
