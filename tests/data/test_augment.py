from dataclasses import fields

import pytest
import torch

from mien.data.augment import AugmentConfig, augment_pair
from mien.ops.warp import warp_map

NOTHING = AugmentConfig(
    **{field.name: 0.0 for field in fields(AugmentConfig) if field.name != "bend_points"}
)


def frames(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 7, 6, 6, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, size=(48, 48), mode="bicubic")[0].clamp(0, 1)
    return smooth[:3] * 2 - 1, smooth[3:6] * 2 - 1, smooth[6:]


def drawn(config: AugmentConfig, seed: int = 1, same: bool = False):
    source, driving, mouth = frames()
    generator = torch.Generator().manual_seed(seed)
    return augment_pair(source, source if same else driving, mouth, config, generator)


def test_all_zero_leaves_the_pair_as_it_is():
    source, driving, mouth = frames()
    pair = drawn(NOTHING)
    torch.testing.assert_close(pair.source[0], source, rtol=0, atol=1e-3)
    torch.testing.assert_close(pair.motion_view_driving[0], driving, rtol=0, atol=1e-3)
    torch.testing.assert_close(pair.mouth[0], mouth, rtol=0, atol=1e-3)


def test_both_frames_are_bent_and_recoloured_alike():
    config = AugmentConfig(head_move=0.0, same_frame=0.0, motion_view=0.0)
    pair = drawn(config, same=True)
    assert (pair.source[0] - frames()[0]).abs().mean() > 0.02
    torch.testing.assert_close(pair.source, pair.driving, rtol=0, atol=1e-5)


def test_views_for_the_motion_encoder_are_recoloured_each_on_its_own():
    pair = drawn(AugmentConfig(head_move=0.0, same_frame=0.0, motion_view=0.2), same=True)
    assert (pair.motion_view_source - pair.motion_view_driving).abs().mean() > 0.02


def test_a_moved_head_leaves_the_corners_still():
    config = AugmentConfig(**{**vars(NOTHING), "head_move": 1.0, "head_shift": 0.2})
    pair = drawn(config, same=True)
    change = (pair.source - pair.driving).abs()[0].mean(dim=0)
    assert change[16:32, 16:32].mean() > 0.02
    assert change[:3, :3].max() < 0.02


def test_the_known_displacement_is_the_move_that_was_made():
    config = AugmentConfig(same_frame=1.0, motion_view=0.0)
    pair = drawn(config, seed=3)
    assert pair.displacement_known == 1
    assert pair.displacement.abs().max() > 0.02
    again = warp_map(pair.source, pair.displacement)
    inner = (..., slice(8, 40), slice(8, 40))
    before = (pair.source - pair.driving)[inner].abs().mean()
    after = (again - pair.driving)[inner].abs().mean()
    assert after < 0.15 * before
    unknown = drawn(AugmentConfig(same_frame=0.0))
    assert unknown.displacement_known == 0
    assert unknown.displacement.abs().max() == 0


@pytest.mark.parametrize("seed", range(5))
def test_everything_stays_in_range_and_follows_the_seed(seed):
    first, again, other = (drawn(AugmentConfig(), s) for s in (seed, seed, seed + 100))
    for field in fields(first):
        value = getattr(first, field.name)
        assert torch.isfinite(value).all()
        assert value.abs().max() <= 1 + 1e-5
        assert torch.equal(value, getattr(again, field.name))
    assert not torch.equal(first.source, other.source)
