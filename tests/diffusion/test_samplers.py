import pytest
import torch

from mien.diffusion.samplers import ddim, euler, guided, multistep
from mien.diffusion.schedule import at_levels, expand_to, sampling_levels

MEAN, STD = 3.0, 0.5
SCHEDULES = ["cosine", "flow"]


def exact_denoiser(schedule):
    """The best guess of something drawn from N(MEAN, STD²), seen through noise."""

    def denoise(x, level):
        levels = at_levels(schedule, level)
        alpha, sigma = levels.alpha[:, None, None], levels.sigma[:, None, None]
        return MEAN + alpha * STD**2 * (x - alpha * MEAN) / (alpha**2 * STD**2 + sigma**2)

    return denoise


@pytest.fixture
def noise():
    return torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("sampler, ratio", [(ddim, 0.6), (euler, 0.6), (multistep, 0.32)])
def test_the_exact_denoiser_carries_noise_to_its_own_place_in_the_gaussian(
    schedule, sampler, ratio, noise
):
    # The probability-flow ODE keeps ranks: noise n ends at MEAN + STD n. The error at 400 steps is
    # below 1 % and halves with the step, in second order it falls to less than a third.
    denoise, expected = exact_denoiser(schedule), MEAN + STD * noise
    errors = [
        (sampler(denoise, noise, sampling_levels(schedule, steps, noise)) - expected)
        .abs()
        .max()
        .item()
        for steps in (200, 400)
    ]
    assert errors[1] < 0.01
    assert errors[1] < ratio * errors[0]


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("sampler", [ddim, multistep])
def test_one_step_is_the_denoisers_answer(schedule, sampler, noise):
    answer = torch.randn_like(noise)
    made = sampler(lambda x, level: answer, noise, sampling_levels(schedule, 1, noise))
    torch.testing.assert_close(made, answer)


def test_on_the_straight_line_euler_is_ddim(noise):
    denoise, levels = exact_denoiser("flow"), sampling_levels("flow", 7, noise)
    torch.testing.assert_close(euler(denoise, noise, levels), ddim(denoise, noise, levels))


@pytest.mark.parametrize("sampler", [ddim, euler, multistep])
def test_samplers_ask_only_at_the_levels_they_were_given(sampler, noise):
    asked = []

    def denoise(x, level):
        asked.append(level)
        return x

    levels = sampling_levels("cosine", 4, noise)
    sampler(denoise, noise, levels)
    torch.testing.assert_close(torch.stack(asked)[:, 0], levels.level[:-1])
    assert all(level.shape == (2,) for level in asked)


def test_guidance_goes_beyond_the_conditional_prediction(noise):
    level = torch.ones(2, dtype=torch.float64)
    # The conditional samples come first.
    gains = torch.tensor([3.0, 3.0, 1.0, 1.0], dtype=torch.float64)
    for weight, gain in ((0.0, 1), (1.0, 3), (2.0, 5)):
        both = guided(lambda x, level: x + expand_to(gains * level, x), weight)
        torch.testing.assert_close(both(noise, level), noise + gain)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_schedule_runs_from_noise_to_clean_and_its_slopes_are_its_derivatives(schedule):
    level = torch.linspace(0, 1, 9, dtype=torch.float64, requires_grad=True)
    levels = at_levels(schedule, level)
    ends = torch.stack([levels.alpha, levels.sigma])[:, [0, -1]].detach()
    torch.testing.assert_close(ends, torch.eye(2, dtype=torch.float64), atol=1e-12, rtol=0)
    for value, slope in ((levels.alpha, levels.alpha_slope), (levels.sigma, levels.sigma_slope)):
        (gradient,) = torch.autograd.grad(value.sum(), level, retain_graph=True)
        torch.testing.assert_close(slope.detach(), gradient)


def test_cosine_keeps_the_variance():
    levels = at_levels("cosine", torch.rand(20, dtype=torch.float64))
    torch.testing.assert_close(
        levels.alpha**2 + levels.sigma**2, torch.ones(20, dtype=torch.float64)
    )


def test_no_steps_are_refused(noise):
    with pytest.raises(ValueError, match="at least one step, not 0"):
        sampling_levels("flow", 0, noise)


@pytest.mark.parametrize("sampler", [ddim, euler])
def test_levels_shared_by_all_samples_give_the_formulas_to_the_bit(sampler):
    """Levels shared by all samples, one axis behind the frames: equal to the last bit."""
    noise = torch.randn(2, 9, 4, generator=torch.Generator().manual_seed(0))
    levels, denoise = sampling_levels("cosine", 10, noise), exact_denoiser("cosine")
    x = noise * levels.sigma[0]
    for i in range(10):
        clean = denoise(x, levels.level[i].expand(2))
        implied = (x - levels.alpha[i] * clean) / levels.sigma[i]
        if sampler is ddim:
            x = levels.alpha[i + 1] * clean + levels.sigma[i + 1] * implied
        else:
            slope = levels.alpha_slope[i] * clean + levels.sigma_slope[i] * implied
            x = x + (levels.level[i + 1] - levels.level[i]) * slope
    assert torch.equal(sampler(denoise, noise, levels), x)


@pytest.mark.parametrize("sampler", [ddim, euler, multistep])
def test_pictures_and_levels_of_single_frames(sampler):
    """Every frame walks down on its own: alike where it has the levels of the others."""
    noise = torch.randn(2, 3, 1, 4, 4, generator=torch.Generator().manual_seed(0)).double()

    def denoise(x, level):
        levels = at_levels("cosine", level)
        alpha, sigma = expand_to(levels.alpha, x), expand_to(levels.sigma, x)
        return MEAN + alpha * STD**2 * (x - alpha * MEAN) / (alpha**2 * STD**2 + sigma**2)

    def asked(x, level):
        assert level.shape == (2, 3)
        return denoise(x, level)

    shared = sampler(denoise, noise, sampling_levels("cosine", 20, noise))
    late = torch.linspace(1, 0, 21, dtype=torch.float64)[:, None, None].expand(21, 2, 3).clone()
    late[:, :, 2] = late[:, :, 2] ** 2
    late[3:5, :, 2] = late[3, :, 2]  # a level may repeat
    each = sampler(asked, noise, at_levels("cosine", late))
    torch.testing.assert_close(each[:, :2], shared[:, :2])
    alone = sampler(denoise, noise[:, 2:], at_levels("cosine", late[:, 0, 2]))
    torch.testing.assert_close(each[:, 2:], alone)
    assert not torch.allclose(each[:, 2], shared[:, 2])
