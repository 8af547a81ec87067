import pytest
import torch

from mien.diffusion.objective import LossWeights, add_noise, objective, to_clean, training_target
from mien.diffusion.schedule import at_levels

FORMS = ["x0", "noise", "flow", "v"]
LEVELS = torch.linspace(0.05, 0.95, 4, dtype=torch.float64)


def pair(frames=6):
    draw = torch.Generator().manual_seed(0)
    return torch.randn(2, 4, frames, 3, generator=draw, dtype=torch.float64).unbind(0)


def score(answer, form, schedule="cosine", weights=None, importance=None, level=LEVELS):
    clean, noise = pair(answer.shape[1])
    levels = at_levels(schedule, level)
    return objective(
        answer,
        add_noise(clean, noise, levels),
        clean,
        noise,
        levels,
        form,
        weights or LossWeights(),
        torch.ones(3, dtype=torch.float64) if importance is None else importance,
    )


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("schedule", ["cosine", "flow"])
def test_the_right_answer_gives_back_the_clean_thing(form, schedule):
    clean, noise = pair()
    levels = at_levels(schedule, LEVELS)
    answer = training_target(clean, noise, levels, form)
    torch.testing.assert_close(
        to_clean(answer, add_noise(clean, noise, levels), levels, form), clean
    )


@pytest.mark.parametrize("form", FORMS)
def test_the_right_answer_costs_nothing(form):
    clean, noise = pair()
    loss, parts = score(training_target(clean, noise, at_levels("cosine", LEVELS), form), form)
    assert set(parts) == {"prediction", "velocity", "acceleration"}
    torch.testing.assert_close(loss, torch.zeros_like(loss))


def test_a_constant_offset_has_no_velocity_and_a_ramp_no_acceleration():
    clean, _ = pair()
    _, offset = score(clean + 2, "x0")
    assert offset["prediction"] == pytest.approx(4)
    assert offset["velocity"] == pytest.approx(0) and offset["acceleration"] == pytest.approx(0)
    ramp = torch.arange(6, dtype=torch.float64)[:, None]
    _, rising = score(clean + ramp, "x0")
    assert rising["velocity"] == pytest.approx(1) and rising["acceleration"] == pytest.approx(0)


def test_weights_and_importance_multiply_what_they_name():
    clean, _ = pair()
    gap = torch.zeros_like(clean)
    gap[..., 1] = 1
    importance = torch.tensor([1.0, 5.0, 1.0], dtype=torch.float64)
    loss, _ = score(clean + gap, "x0", weights=LossWeights(2.0, 0.0, 0.0), importance=importance)
    assert float(loss) == pytest.approx(2 * 5 / 3)


def test_frame_differences_do_not_explode_at_pure_noise():
    clean, noise = pair()
    level = torch.ones(4, dtype=torch.float64)
    loss, _ = score(noise + torch.randn_like(noise), "noise", level=level)
    assert loss < 100


def test_one_frame_has_nothing_to_difference():
    clean, _ = pair(frames=1)
    loss, parts = score(clean + 1, "x0")
    assert parts["velocity"] == 0 and parts["acceleration"] == 0
    assert float(loss) == pytest.approx(1)


def test_the_gradient_points_at_the_clean_thing():
    clean, _ = pair()
    answer = (clean + 0.5).requires_grad_()
    loss, _ = score(answer, "x0")
    loss.backward()
    assert answer.grad is not None and (answer.grad > 0).all()


def picture_pair():
    draw = torch.Generator().manual_seed(2)
    return torch.randn(2, 4, 6, 3, 5, 7, generator=draw, dtype=torch.float64).unbind(0)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", [(4,), (4, 6)])
def test_pictures_with_a_level_a_sample_or_a_frame(form, shape):
    clean, noise = picture_pair()
    draw = torch.Generator().manual_seed(3)
    levels = at_levels("cosine", 0.05 + 0.9 * torch.rand(shape, generator=draw).double())
    mixture = add_noise(clean, noise, levels)
    one = at_levels("cosine", levels.level.reshape(4, -1)[1, -1:])
    torch.testing.assert_close(mixture[1, -1], add_noise(clean[1, -1:], noise[1, -1:], one)[0])
    answer = training_target(clean, noise, levels, form)
    torch.testing.assert_close(to_clean(answer, mixture, levels, form), clean)
    weights, importance = LossWeights(), torch.ones(3, 5, 7, dtype=torch.float64)
    loss, _ = objective(answer, mixture, clean, noise, levels, form, weights, importance)
    torch.testing.assert_close(loss, torch.zeros_like(loss))


def test_importance_weighs_the_channels_of_pictures():
    clean, noise = picture_pair()
    levels = at_levels("cosine", LEVELS)
    gap = torch.zeros_like(clean)
    gap[:, :, 1] = 1
    importance = torch.tensor([1.0, 5.0, 1.0], dtype=torch.float64)[:, None, None]
    mixture, weights = add_noise(clean, noise, levels), LossWeights()
    loss, _ = objective(clean + gap, mixture, clean, noise, levels, "x0", weights, importance)
    assert float(loss) == pytest.approx(5 / 3)


@pytest.mark.parametrize("form", FORMS)
def test_frames_that_share_a_level_score_like_the_sample(form):
    clean, noise = pair()
    answer = training_target(clean, noise, at_levels("cosine", LEVELS), form) + 0.3 * noise.roll(
        1, 1
    )
    for_sample = score(answer, form)
    for_frames = score(answer, form, level=LEVELS[:, None].expand(4, 6))
    torch.testing.assert_close(for_frames, for_sample)


def test_a_frame_at_pure_noise_does_not_explode_its_neighbours_differences():
    clean, noise = pair()
    level = torch.full((4, 6), 0.3, dtype=torch.float64)
    level[:, 3] = 1.0
    answer = noise + torch.randn_like(noise)
    loss, parts = score(answer, "noise", level=level)
    assert loss < 100
    level[:, 3] = 0.3
    assert parts["velocity"] < score(answer, "noise", level=level)[1]["velocity"]


def test_stage_2_trains_on_the_very_numbers_it_always_did():
    """One level a sample and one axis behind the frames, written out: equal to the last bit."""
    draw = torch.Generator().manual_seed(4)
    clean, noise, answer = torch.randn(3, 5, 9, 7, generator=draw)
    levels = at_levels("cosine", torch.rand(5, generator=draw))
    importance = torch.rand(7, generator=draw)
    alpha, sigma = levels.alpha[:, None, None], levels.sigma[:, None, None]
    mixture = alpha * clean + sigma * noise
    assert torch.equal(add_noise(clean, noise, levels), mixture)
    gap = (mixture - sigma * answer) / alpha.clamp(min=0.02) - clean
    assert torch.equal(to_clean(answer, mixture, levels, "noise") - clean, gap)

    def score_of(wrong):
        return (wrong.square() * importance).sum(dim=(1, 2)) / (wrong.shape[1] * wrong.shape[2])

    expected = score_of(answer - noise).mean()
    confidence = levels.alpha.square()
    expected = expected + (confidence * score_of(gap.diff(dim=1))).mean()
    expected = expected + (confidence * score_of(gap.diff(n=2, dim=1))).mean()
    loss, _ = objective(answer, mixture, clean, noise, levels, "noise", LossWeights(), importance)
    assert torch.equal(loss, expected)
