from dataclasses import replace

import pytest
import torch

from mien.errors import UserError
from mien.ops.warp import identity_grid
from mien.training.discriminator import (
    DiscriminatorConfig,
    PatchDiscriminator,
    adversarial_loss,
    discriminator_loss,
    feature_matching_loss,
)
from mien.training.losses import (
    HUBER_DELTA,
    LossConfig,
    displacement_loss,
    field_loss,
    pixel_loss,
    threshold_mask_loss,
    token_position_loss,
)
from mien.training.stage1 import ReconstructionStage
from mien.types import FramePair, MotionField

CONFIG = LossConfig(scales=1)


def test_equal_pictures_cost_nothing():
    picture = torch.rand(2, 3, 16, 16)
    parts = pixel_loss(picture, picture, *[torch.ones(2, 1, 16, 16)] * 2, LossConfig())
    assert all(part == 0 for part in parts.values())


def test_an_error_inside_the_mouth_counts_by_its_weight():
    driving = torch.zeros(1, 3, 16, 16)
    mouth = torch.zeros(1, 1, 16, 16)
    mouth[..., :4, :4] = 1
    inside, outside = driving.clone(), driving.clone()
    inside[..., 1, 1] = 1
    outside[..., 9, 9] = 1
    weighted = replace(CONFIG, mouth=8.0)
    a = pixel_loss(inside, driving, mouth, torch.ones_like(mouth), weighted)["pixel"]
    b = pixel_loss(outside, driving, mouth, torch.ones_like(mouth), weighted)["pixel"]
    torch.testing.assert_close(a, 9 * b)


def test_gradient_loss_sees_edges_and_not_brightness():
    driving = torch.rand(1, 3, 16, 16)
    none = torch.zeros(1, 1, 16, 16)
    assert pixel_loss(driving + 0.2, driving, none, 1 + none, CONFIG)["gradient"] < 1e-6
    assert pixel_loss(driving.flip(3), driving, none, 1 + none, CONFIG)["gradient"] > 0.1


def test_threshold_mask_loss_is_silent_below_tau_and_never_nan():
    wanted = torch.randn(1, 4, 2, 8, 8)
    near = (wanted + 0.01).requires_grad_()
    quiet = threshold_mask_loss(near, wanted, tau=0.1)
    quiet.backward()
    assert quiet < 2e-4
    assert torch.isfinite(near.grad).all()
    far = wanted + wanted.std()  # one deviation away everywhere
    torch.testing.assert_close(
        threshold_mask_loss(far, wanted, tau=0.1), torch.tensor(1.0), rtol=1e-4, atol=0
    )


def test_threshold_mask_loss_teaches_the_moved_volume_alone():
    wanted = torch.randn(1, 2, 1, 4, 4, requires_grad=True)
    moved = torch.randn(1, 2, 1, 4, 4, requires_grad=True)
    threshold_mask_loss(moved, wanted, tau=0.1).backward()
    assert wanted.grad is None
    assert moved.grad.abs().max() > 0


def field(displacement: torch.Tensor, shares: torch.Tensor) -> MotionField:
    return MotionField(displacement, torch.ones(displacement.shape[:4]), shares)


def test_a_shift_of_everything_is_smooth_and_a_tear_is_not():
    shares = torch.full((1, 3, 1, 8, 8), 1 / 3)
    shift = torch.full((1, 1, 8, 8, 2), 0.3)
    tear = shift.clone()
    tear[:, :, :, 4:] *= -1
    assert field_loss(field(shift, shares), CONFIG)["smoothness"] < 1e-6
    assert field_loss(field(tear, shares), CONFIG)["smoothness"] > 1e-3


def test_a_dead_region_costs_and_a_living_one_does_not():
    still = torch.zeros(1, 1, 8, 8, 2)
    living = torch.full((1, 3, 1, 8, 8), 1 / 3)
    dead = living.clone()
    dead[:, 2] = 0
    assert field_loss(field(still, living), CONFIG)["region_balance"] == 0
    torch.testing.assert_close(
        field_loss(field(still, dead), CONFIG)["region_balance"],
        torch.tensor(CONFIG.region_balance),
    )


def frame_pair(confidence: torch.Tensor, mouth: torch.Tensor | None = None) -> FramePair:
    """Pairs of pictures that moved by 0.1 everywhere."""
    picture = torch.zeros(len(confidence), 3, 8, 8)
    move = torch.full((len(confidence), 8, 8, 2), 0.1)
    mouth = picture[:, :1] if mouth is None else mouth
    views = picture, picture[:, None]
    return FramePair(picture, picture, *views, mouth, move, confidence, torch.ones_like(mouth))


def still_field(pairs: int) -> MotionField:
    displacement = torch.zeros(pairs, 1, 4, 4, 2, requires_grad=True)
    shares = torch.ones(pairs, 2, 1, 4, 4) / 2
    return MotionField(displacement, torch.ones(pairs, 1, 4, 4), shares)


def test_only_trusted_moves_teach_the_field():
    confidence = torch.zeros(2, 8, 8, 1)
    confidence[0, :4] = 1
    found = still_field(2)
    loss = displacement_loss(found, frame_pair(confidence))
    loss.backward()
    torch.testing.assert_close(
        loss, torch.tensor((0.1 - HUBER_DELTA / 2) / 4)
    )  # a quarter is certain
    gradient = found.displacement.grad
    assert gradient is not None
    assert (gradient[0, 0, :2] != 0).all()
    assert (gradient[0, 0, 2:] == 0).all() and (gradient[1] == 0).all()


def test_a_move_that_is_trusted_in_part_is_wanted_in_full():
    part = torch.ones(1, 8, 8, 1)
    part[:, ::2] = 0  # every cell of the field holds certain pixels and others
    found = still_field(1)
    wanted = MotionField(torch.full_like(found.displacement, 0.1), found.mask, found.regions)
    assert (
        displacement_loss(wanted, frame_pair(part))
        < 1e-6
        < displacement_loss(found, frame_pair(part))
    )


def test_the_mouth_counts_more():
    mouth = torch.zeros(1, 1, 8, 8)
    mouth[..., :4] = 1
    everywhere = torch.ones(1, 8, 8, 1)
    plain, weighted = (
        displacement_loss(still_field(1), frame_pair(everywhere, mouth), more)
        for more in (0.0, 10.0)
    )
    torch.testing.assert_close(weighted, plain * 6)


def test_places_that_follow_the_move_cost_nothing_and_others_learn_to():
    here = identity_grid(4, 4, like=torch.zeros(1)).expand(1, 4, 4, 2) * 0.8
    pair = frame_pair(torch.ones(1, 8, 8, 1))
    assert token_position_loss(here + 0.1, here, pair) < 1e-8
    stuck = here.clone().requires_grad_()
    loss = token_position_loss(stuck, here, pair)
    torch.testing.assert_close(loss, torch.tensor(0.1 - HUBER_DELTA / 2))
    loss.backward()
    assert stuck.grad is not None and (stuck.grad < 0).all()  # they move along
    assert token_position_loss(here, here, frame_pair(torch.zeros(1, 8, 8, 1))) == 0


def test_places_read_the_move_where_the_driving_token_looks():
    grid = identity_grid(8, 8, like=torch.zeros(1))
    pair = frame_pair(torch.ones(1, 8, 8, 1))
    pair = replace(pair, displacement=torch.stack((0.3 * grid[..., 0], 0 * grid[..., 1]), -1)[None])
    driving = identity_grid(4, 4, like=torch.zeros(1)).expand(1, 4, 4, 2) * 0.8
    source = driving * torch.tensor([1.3, 1.0])
    assert token_position_loss(source, driving, pair) < 1e-8
    assert token_position_loss(driving, source, pair) > 0.01
    assert token_position_loss(driving * torch.tensor([1.0, 1.3]), driving, pair) > 0.01


def test_the_places_of_the_mouth_count_more():
    mouth = torch.zeros(1, 1, 8, 8)
    mouth[..., :4] = 1
    here = identity_grid(4, 4, like=torch.zeros(1)).expand(1, 4, 4, 2)
    pair = frame_pair(torch.ones(1, 8, 8, 1), mouth)
    plain, weighted = (token_position_loss(here, here, pair, more) for more in (0.0, 10.0))
    torch.testing.assert_close(weighted, plain * 6)


def test_the_discriminator_learns_to_tell_stripes_from_noise():
    torch.manual_seed(0)
    critic = PatchDiscriminator(DiscriminatorConfig(channels=(8, 16), scales=2))
    optimizer = torch.optim.Adam(critic.parameters(), lr=2e-3, betas=(0.5, 0.999))
    stripes = torch.sin(torch.arange(32.0)).expand(4, 3, 32, 32)
    losses = []
    for _ in range(40):
        noise = torch.rand(4, 3, 32, 32) * 2 - 1
        loss = discriminator_loss(critic(stripes), critic(noise))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    with torch.no_grad():
        assert adversarial_loss(critic(stripes)) < adversarial_loss(critic(noise))


def test_feature_matching_is_zero_for_the_same_picture_and_leaves_the_real_side_alone():
    critic = PatchDiscriminator(DiscriminatorConfig(channels=(8, 16), scales=1)).eval()
    real = torch.rand(1, 3, 32, 32, requires_grad=True)
    drawn = torch.rand(1, 3, 32, 32, requires_grad=True)
    assert feature_matching_loss(critic(real), critic(real)) == 0
    feature_matching_loss(critic(real), critic(drawn)).backward()
    assert real.grad is None
    assert drawn.grad.abs().max() > 0


@pytest.mark.parametrize("scales", [1, 3])
def test_the_discriminator_judges_every_scale(scales):
    critic = PatchDiscriminator(DiscriminatorConfig(channels=(8, 16), scales=scales))
    answers = critic(torch.rand(2, 3, 64, 64))
    assert [maps[-1].shape[-1] for maps in answers] == [16 // 2**i for i in range(scales)]


def test_a_loss_on_warped_features_needs_a_decoder():
    with pytest.raises(UserError, match=r"loss\.threshold .* decoder none"):
        ReconstructionStage(loss=LossConfig(threshold=1.0))
