from dataclasses import fields

import pytest
import torch

from mien.data.augment import AugmentConfig, augment_pair
from mien.data.flow import measure_flow
from mien.ops.warp import identity_grid, warp_map

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
    torch.testing.assert_close(pair.motion_view_driving[0, 0], driving, rtol=0, atol=1e-3)
    torch.testing.assert_close(pair.mouth[0], mouth, rtol=0, atol=1e-3)


def test_both_frames_are_bent_and_recoloured_alike():
    config = AugmentConfig(head_move=0.0, same_frame=0.0, motion_view=0.0)
    pair = drawn(config, same=True)
    assert (pair.source[0] - frames()[0]).abs().mean() > 0.02
    torch.testing.assert_close(pair.source, pair.driving, rtol=0, atol=1e-5)


def test_views_for_the_motion_encoder_are_recoloured_each_on_its_own():
    pair = drawn(AugmentConfig(head_move=0.0, same_frame=0.0, motion_view=0.2), same=True)
    assert (pair.motion_view_source - pair.motion_view_driving[:, 0]).abs().mean() > 0.02


def test_a_moved_head_leaves_the_corners_still():
    config = AugmentConfig(**{**vars(NOTHING), "head_move": 1.0, "head_shift": 0.2})
    pair = drawn(config, same=True)
    change = (pair.source - pair.driving).abs()[0].mean(dim=0)
    assert change[16:32, 16:32].mean() > 0.02
    assert change[:3, :3].max() < 0.02


def test_the_known_displacement_is_the_move_that_was_made():
    config = AugmentConfig(same_frame=1.0, lips_alone=0.0, motion_view=0.0, mouth_open=0.0)
    pair = drawn(config, seed=3)
    assert (pair.displacement_confidence == 1).all()
    assert pair.displacement.abs().max() > 0.02
    again = warp_map(pair.source, pair.displacement)
    inner = (..., slice(8, 40), slice(8, 40))
    before = (pair.source - pair.driving)[inner].abs().mean()
    after = (again - pair.driving)[inner].abs().mean()
    assert after < 0.15 * before
    unknown = drawn(AugmentConfig(same_frame=0.0, flow=0.0))
    assert unknown.displacement_confidence.max() == 0
    assert unknown.displacement.abs().max() == 0


def boxed(top: int, bottom: int, left: int, right: int) -> torch.Tensor:
    mouth = torch.zeros(1, 48, 48)
    mouth[:, top:bottom, left:right] = 1
    return mouth


def test_lips_part_at_the_mouth_and_nothing_else_moves():
    config = AugmentConfig(
        **{**vars(NOTHING), "same_frame": 1.0, "lips_alone": 1.0, "mouth_open": 0.4}
    )
    source, mouth = frames()[0], boxed(28, 36, 16, 32)
    openings = []
    for seed in range(8):
        generator = torch.Generator().manual_seed(seed)
        move = augment_pair(source, source, mouth, config, generator).displacement[0]
        assert move[:12].abs().max() < 0.01 and move[..., 0].abs().max() < 1e-6
        upper, lower = move[28, 24, 1], move[35, 24, 1]
        openings.append(float(upper - lower))  # opened lips are read from closer together
        pair = augment_pair(source, source, mouth, config, torch.Generator().manual_seed(seed))
        undrawn = warp_map(pair.source, move[None]) - pair.driving
        painted = undrawn.abs().amax(dim=1)[0]
        assert painted[:20].max() < 1e-3
        assert (painted[28:36].max() > 0.05) == (openings[-1] > 0)
        fold = 2 / 48 + move[..., 1].diff(dim=0)
        assert fold.min() > 0
    assert min(openings) < -0.02 and max(openings) > 0.02


def test_without_a_mouth_no_lips_move():
    config = AugmentConfig(
        **{**vars(NOTHING), "same_frame": 1.0, "lips_alone": 1.0, "mouth_open": 0.4}
    )
    source = frames()[0]
    pair = augment_pair(
        source, source, torch.zeros(1, 48, 48), config, torch.Generator().manual_seed(0)
    )
    assert pair.displacement.abs().max() < 1e-6
    torch.testing.assert_close(pair.source, pair.driving, rtol=0, atol=1e-5)


def test_flow_finds_a_move_and_says_where_it_does_not():
    source = frames(seed=4)[0]
    source = torch.nn.functional.interpolate(source[None], (256, 256), mode="bicubic")[0]
    source = source + 0.3 * torch.randn(3, 256, 256, generator=torch.Generator().manual_seed(0))
    source = torch.nn.functional.avg_pool2d(source[None], 5, 1, 2)[0].clamp(-1, 1)
    middle = torch.exp(-4 * identity_grid(256, 256, like=source).square().sum(-1, keepdim=True))
    move = 0.05 * middle * torch.tensor([1.0, -0.5])
    driving = warp_map(source[None], move[None])[0]
    driving[:, :40, :40] = torch.rand(3, 40, 40, generator=torch.Generator().manual_seed(1))
    found, confidence = measure_flow(source, driving)
    inner = (slice(96, 160), slice(96, 160))
    assert confidence[inner].mean() > 0.95 and confidence[8:32, 8:32].mean() < 0.5
    assert (found[inner] - move[inner]).abs().mean() < 0.1 * move[inner].abs().mean()
    again, _ = measure_flow(source, driving)
    assert torch.equal(found, again)


@pytest.mark.parametrize("seed", range(5))
def test_everything_stays_in_range_and_follows_the_seed(seed):
    first, again, other = (drawn(AugmentConfig(), s) for s in (seed, seed, seed + 100))
    for field in [f for f in fields(first) if f.name != "guide"]:
        value = getattr(first, field.name)
        assert torch.isfinite(value).all()
        assert value.abs().max() <= 1 + 1e-5
        assert torch.equal(value, getattr(again, field.name))
    assert not torch.equal(first.source, other.source)
