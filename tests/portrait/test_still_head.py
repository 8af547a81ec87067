"""A head that stays: the window is that part of the whole frame, the rest is the frame at rest."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mien.portrait import still_head
from mien.portrait.still_head import FixedNorm, StillHead
from mien.portrait.window import Window
from mien.types import Guide
from tests.portrait.test_guide import made_guide
from tests.portrait.tiny import awake, pictures, tiny_animator

SIDE = 128
MOUTH = Window(14, 17, 13, 18, SIDE // 4)
MAPS = "skin", "mouth", "person", "covered", "disoccluded"


def guide_of(frames: int, move: float) -> Guide:
    """The round face of other tests at this size."""
    small = made_guide(frames, move=move)
    doubled = {name: F.interpolate(getattr(small, name)[:, None], SIDE)[:, 0] for name in MAPS}
    colors = {
        name: F.interpolate(getattr(small, name), SIDE) for name in ("background", "interior")
    }
    planes = F.interpolate(small.displacement.permute(0, 3, 1, 2), SIDE).permute(0, 2, 3, 1)
    return replace(small, displacement=planes, head=0 * small.head, **doubled, **colors)


def head_of(**changes) -> StillHead:
    animator = awake(tiny_animator(guide=True, image_size=SIDE, **changes))
    source = pictures(1, SIDE)
    with torch.no_grad():
        appearance, motion = animator.encode_appearance(source), animator.encode_motion(source)
        return StillHead.of(animator, appearance, motion, guide_of(1, move=0.0), MOUTH)


@pytest.fixture(scope="module")
def head() -> StillHead:
    return head_of(decoder_blocks=2)


@torch.no_grad()
def test_a_norm_with_fixed_statistics_is_the_norm_of_that_input():
    norm, x = nn.GroupNorm(3, 12), torch.randn(1, 12, 9, 7) * 3 + 1
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    fixed = FixedNorm(norm, x)
    torch.testing.assert_close(fixed(x), norm(x))
    torch.testing.assert_close(fixed(2 * x) - fixed(x), fixed(x) - fixed(0 * x))


@torch.no_grad()
def test_the_frame_at_rest_is_what_the_animator_draws(head):
    source = head.source
    drawn = head.animator.render_prepared(source, source.motion[:, None], guide_of(1, move=0.0))
    torch.testing.assert_close(head.frame, drawn[0])
    torch.testing.assert_close(head.render(guide_of(1, move=0.0))[0], drawn[0], rtol=0, atol=1e-5)


@torch.no_grad()
def test_the_window_is_that_of_the_whole_frame_and_the_rest_stays(head, monkeypatch):
    guide = guide_of(3, move=0.2)
    frames = head.render(guide)[0]
    monkeypatch.setattr(still_head, "_reach", lambda config: SIDE)  # the decoder draws all of it
    torch.testing.assert_close(frames, head.render(guide)[0], rtol=0, atol=1e-5)
    monkeypatch.setattr(still_head, "_reach", lambda config: 2)
    assert (frames - head.render(guide)[0]).abs().max() > 1e-4, "the margin is not needed"

    rows, columns = MOUTH.slices(SIDE)
    moved = (frames - head.frame).abs()
    assert moved[..., rows, columns].amax(dim=(1, 2, 3)).min() > 1e-2
    outer = MOUTH.grown(3).slices(SIDE)
    moved[..., outer[0], outer[1]] = 0
    assert not moved.any()
    assert (head.weight[..., rows, columns] == 1).all() and 0 < head.weight.mean() < 0.3


@torch.no_grad()
def test_without_a_decoder_the_window_is_that_of_the_whole_frame_too():
    head, guide = head_of(decoder="none"), guide_of(3, move=0.2)
    source = head.source
    whole = head.animator.render_prepared(source, source.motion[:, None].repeat(1, 3, 1), guide)
    rows, columns = MOUTH.slices(SIDE)
    drawn = head.render(guide)[0]
    torch.testing.assert_close(
        drawn[..., rows, columns], whole[0][..., rows, columns], rtol=0, atol=1e-5
    )
    assert (drawn - head.frame).abs().max() > 1e-2


def test_without_a_guide_there_is_no_still_head(head):
    animator = awake(tiny_animator(image_size=SIDE))
    with pytest.raises(ValueError, match="guide"), torch.no_grad():
        StillHead.of(animator, head.source.appearance, head.source.motion, guide_of(1, 0.0), MOUTH)
