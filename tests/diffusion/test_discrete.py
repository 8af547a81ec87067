"""Whole timesteps: rescaled betas of arXiv 2305.08891 against their closed form, and sampling."""

import math

import pytest
import torch

from mien.diffusion.discrete import (
    CLEAN,
    DiscreteSchedule,
    scaled_linear_betas,
    zero_terminal_snr,
)
from mien.diffusion.objective import add_noise, to_clean, training_target
from mien.diffusion.samplers import ddim, euler, multistep
from mien.diffusion.schedule import expand_to

MEAN, STD = 3.0, 0.5
LIKE = torch.zeros((), dtype=torch.float64)


@pytest.fixture
def plain() -> DiscreteSchedule:
    return DiscreteSchedule.from_betas(scaled_linear_betas())


@pytest.fixture
def rescaled() -> DiscreteSchedule:
    return DiscreteSchedule.from_betas(zero_terminal_snr(scaled_linear_betas()))


def test_alpha_is_the_product_of_what_each_timestep_leaves():
    betas = torch.tensor([0.1, 0.2, 0.5], dtype=torch.float64)
    expected = [math.sqrt(0.9), math.sqrt(0.9 * 0.8), math.sqrt(0.9 * 0.8 * 0.5)]
    assert DiscreteSchedule.from_betas(betas).alphas.tolist() == pytest.approx(expected, rel=1e-12)


def test_stable_diffusion_s_last_timestep_is_not_pure_noise(plain):
    # The figure of arXiv 2305.08891, table 1: sqrt(alpha-bar) 0.068265, SNR 0.004682.
    alpha = plain.alphas[-1]
    assert float(alpha) == pytest.approx(0.068265, abs=5e-7)
    assert float(alpha**2 / (1 - alpha**2)) == pytest.approx(0.004682, abs=5e-7)


def test_rescaled_ends_at_exactly_no_signal_and_begins_as_before(plain, rescaled):
    assert rescaled.alphas[-1] == 0
    assert float(rescaled.alphas[0]) == pytest.approx(float(plain.alphas[0]), rel=1e-12)
    # In between alpha is a shifted and scaled copy of itself.
    first, last = plain.alphas[0], plain.alphas[-1]
    expected = (plain.alphas - last) * first / (first - last)
    torch.testing.assert_close(rescaled.alphas, expected, atol=1e-9, rtol=0)
    betas = zero_terminal_snr(scaled_linear_betas())
    assert betas[-1] == 1 and ((betas > 0) & (betas <= 1)).all()


def test_timesteps_of_any_shape_keep_the_variance(rescaled):
    timestep = torch.randint(0, 1000, (2, 5), generator=torch.Generator().manual_seed(0))
    levels = rescaled.at(timestep, LIKE)
    assert levels.level.equal(timestep) and levels.alpha.dtype == torch.float64
    torch.testing.assert_close(levels.alpha**2 + levels.sigma**2, torch.ones(2, 5).double())
    clean = rescaled.at(torch.tensor(CLEAN), LIKE)
    assert (float(clean.alpha), float(clean.sigma)) == (1, 0)


def test_v_at_pure_noise_still_tells_the_clean_thing(rescaled):
    draw = torch.Generator().manual_seed(1)
    clean, noise = torch.randn(2, 2, 3, 4, 5, generator=draw).double()
    levels = rescaled.at(torch.tensor([[999, 0, 400], [999, 999, 7]]), LIKE)
    answer = training_target(clean, noise, levels, "v")
    mixture = add_noise(clean, noise, levels)
    torch.testing.assert_close(mixture[0, 0], noise[0, 0], rtol=0, atol=0)
    torch.testing.assert_close(answer[0, 0], -clean[0, 0], rtol=0, atol=0)
    torch.testing.assert_close(to_clean(answer, mixture, levels, "v"), clean)


def test_the_way_down_begins_at_the_last_timestep_and_ends_clean(rescaled):
    # Table 2 of arXiv 2305.08891, "trailing", counted from 0.
    levels = rescaled.sampling_levels(10, LIKE)
    assert levels.level.tolist() == [999, 899, 799, 699, 599, 499, 399, 299, 199, 99, CLEAN]
    assert levels.sigma[0] == 1 and levels.sigma[-1] == 0
    assert len(set(rescaled.sampling_levels(1000, LIKE).level.tolist())) == 1001


@pytest.mark.parametrize("sampler", [ddim, multistep])
def test_noise_is_carried_to_its_own_place_in_the_gaussian(sampler, rescaled):
    noise = torch.randn(2, 3, 1, 4, generator=torch.Generator().manual_seed(0)).double()

    def denoise(x, timestep):
        assert timestep.shape == (2,) and not timestep.is_floating_point()
        levels = rescaled.at(timestep, x)
        alpha, sigma = expand_to(levels.alpha, x), expand_to(levels.sigma, x)
        clean = MEAN + alpha * STD**2 * (x - alpha * MEAN) / (alpha**2 * STD**2 + sigma**2)
        answer = (alpha * x - clean) / sigma  # the same in the velocity form
        return to_clean(answer, x, levels, "v")

    expected = MEAN + STD * noise
    errors = [
        (sampler(denoise, noise, rescaled.sampling_levels(steps, noise)) - expected)
        .abs()
        .max()
        .item()
        for steps in (100, 1000)
    ]
    assert errors[1] < 0.02 and errors[1] < 0.3 * errors[0]


def test_what_discrete_timesteps_cannot_do_is_said(rescaled):
    with pytest.raises(ValueError, match="euler needs a continuous schedule"):
        euler(lambda x, level: x, torch.zeros(1, 2), rescaled.sampling_levels(4, LIKE))
    with pytest.raises(ValueError, match="at least one step, not 0"):
        rescaled.sampling_levels(0, LIKE)
    with pytest.raises(ValueError, match="1001 steps are more than the schedule's 1000"):
        rescaled.sampling_levels(1001, LIKE)
