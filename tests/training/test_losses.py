from dataclasses import replace

import pytest
import torch

from mien.training.discriminator import (
    DiscriminatorConfig,
    PatchDiscriminator,
    adversarial_loss,
    discriminator_loss,
    feature_matching_loss,
)
from mien.training.losses import (
    LossConfig,
    field_loss,
    known_field_loss,
    pixel_loss,
    threshold_mask_loss,
)
from mien.types import FramePair, MotionField

CONFIG = LossConfig(scales=1)


def test_equal_pictures_cost_nothing():
    picture = torch.rand(2, 3, 16, 16)
    parts = pixel_loss(picture, picture, torch.ones(2, 1, 16, 16), LossConfig())
    assert all(part == 0 for part in parts.values())


def test_an_error_inside_the_mouth_counts_by_its_weight():
    driving = torch.zeros(1, 3, 16, 16)
    mouth = torch.zeros(1, 1, 16, 16)
    mouth[..., :4, :4] = 1
    inside, outside = driving.clone(), driving.clone()
    inside[..., 1, 1] = 1
    outside[..., 9, 9] = 1
    weighted = replace(CONFIG, mouth=8.0)
    a = pixel_loss(inside, driving, mouth, weighted)["pixel"]
    b = pixel_loss(outside, driving, mouth, weighted)["pixel"]
    torch.testing.assert_close(a, 9 * b)


def test_gradient_loss_sees_edges_and_not_brightness():
    driving = torch.rand(1, 3, 16, 16)
    none = torch.zeros(1, 1, 16, 16)
    assert pixel_loss(driving + 0.2, driving, none, CONFIG)["gradient"] < 1e-6
    assert pixel_loss(driving.flip(3), driving, none, CONFIG)["gradient"] > 0.1


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


def test_only_known_moves_teach_the_field():
    displacement = torch.zeros(2, 1, 4, 4, 2, requires_grad=True)
    found = MotionField(displacement, torch.ones(2, 1, 4, 4), torch.ones(2, 2, 1, 4, 4) / 2)
    picture = torch.zeros(2, 3, 8, 8)
    move = torch.full((2, 8, 8, 2), 0.1)
    told = torch.tensor([1.0, 0.0])
    pair = FramePair(picture, picture, picture, picture, picture[:, :1], move, told)
    loss = known_field_loss(found, pair)
    loss.backward()
    torch.testing.assert_close(loss, torch.tensor(0.05))  # the mean of 0.1 and of nothing
    assert displacement.grad is not None
    assert (displacement.grad[0] != 0).all()
    assert (displacement.grad[1] == 0).all()


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
