import pytest
import torch

from mien.diffusion.objective import LossWeights, noised, objective, target_of, to_clean
from mien.diffusion.schedule import at_levels

FORMS = ["x0", "noise", "flow"]
LEVELS = torch.linspace(0.05, 0.95, 4, dtype=torch.float64)


def pair(frames=6):
    draw = torch.Generator().manual_seed(0)
    return torch.randn(2, 4, frames, 3, generator=draw, dtype=torch.float64).unbind(0)


def score(answer, form, schedule="cosine", weights=None, importance=None, level=LEVELS):
    clean, noise = pair(answer.shape[1])
    levels = at_levels(schedule, level)
    return objective(
        answer,
        noised(clean, noise, levels),
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
    answer = target_of(clean, noise, form)
    torch.testing.assert_close(to_clean(answer, noised(clean, noise, levels), levels, form), clean)


@pytest.mark.parametrize("form", FORMS)
def test_the_right_answer_costs_nothing(form):
    clean, noise = pair()
    loss, parts = score(target_of(clean, noise, form), form)
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
