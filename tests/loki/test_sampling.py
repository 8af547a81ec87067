"""Sampling: windows of any number, seeds, guidance, and a closed form."""

from dataclasses import replace

import pytest
import torch

from mien.diffusion.samplers import ddim
from mien.loki.net import Loki
from mien.loki.sampling import LokiSamplingConfig, denoiser, sample_frames
from mien.training.loki import as_sampled
from tests.loki.tiny import TINY, awake

FAST = LokiSamplingConfig(steps=2, guidance=2.0, overlap=1)


@pytest.fixture(scope="module")
def net() -> Loki:
    return awake(Loki(TINY))


def draw(net: Loki, count: int, sampling: LokiSamplingConfig = FAST, seed: int = 0):
    torch.manual_seed(9)
    maps, values = torch.rand(1, 8, 7, 32, 32), torch.zeros(1, 8, TINY.coefficient_dims)
    picture = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        reference = net.encode_reference(picture, maps[:, 0], values[:, 0])
    asked: list[tuple[int, int]] = []

    def condition(first: int, last: int) -> torch.Tensor:
        asked.append((first, last))
        return net.encode_condition(maps[:, first:last], values[:, first:last])

    generator = torch.Generator().manual_seed(seed)
    windows = list(sample_frames(net, reference, count, condition, sampling, generator))
    return torch.cat(windows, dim=1), asked


@torch.no_grad()
def conditions(net: Loki):
    """Condition of a window of three frames, and a reference."""
    torch.manual_seed(3)
    maps, values = torch.rand(1, 3, 7, 32, 32), torch.zeros(1, 3, TINY.coefficient_dims)
    reference = net.encode_reference(torch.rand(1, 3, 32, 32), maps[:, 0], values[:, 0])
    return net.encode_condition(maps, values), reference


@pytest.mark.parametrize("overlap", [0, 1, 2, 9])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 8])
def test_any_number_of_frames_and_windows_that_overlap(net: Loki, count: int, overlap: int):
    frames, asked = draw(net, count, LokiSamplingConfig(steps=1, overlap=overlap))
    assert frames.shape == (1, count, 3, 32, 32)
    shared = min(overlap, TINY.window - 1)
    for before, after in zip(asked[:-1], asked[1:], strict=True):
        assert after[0] == before[1] - shared
    assert all(1 <= last - first <= TINY.window for first, last in asked)


def test_same_seed_same_bytes_and_another_seed_another_film(net: Loki):
    one, again, other = draw(net, 5)[0], draw(net, 5)[0], draw(net, 5, seed=1)[0]
    assert torch.equal(one, again)
    assert (one - other).abs().max() > 0.01


def test_a_longer_film_begins_as_the_shorter(net: Loki):
    assert torch.equal(draw(net, 3)[0], draw(net, 8)[0][:, :3])


def test_with_common_noise_frames_of_one_map_are_alike(net: Loki):
    generator = torch.Generator().manual_seed(0)
    picture, maps = torch.rand(1, 3, 32, 32), torch.rand(1, 1, 7, 32, 32)
    values = torch.zeros(1, 1, TINY.coefficient_dims)
    with torch.no_grad():
        reference = net.encode_reference(picture, maps[:, 0], values[:, 0])
        condition = net.encode_condition(maps, values)

    def spread(common: bool) -> float:
        sampling = LokiSamplingConfig(steps=2, common_noise=common)
        drawn = sample_frames(
            net,
            reference,
            3,
            lambda a, b: condition.expand(-1, b - a, -1, -1, -1),
            sampling,
            generator,
        )
        return torch.cat(list(drawn), dim=1).detach().std(dim=1).max().item()

    assert spread(common=True) < 1e-5
    assert spread(common=False) > 0.01


def test_temperature_scales_the_initial_noise(net: Loki):
    seen: list[torch.Tensor] = []
    handle = net.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    for temperature in (1.0, 0.25, 0.0):
        draw(net, 1, replace(FAST, temperature=temperature))
    handle.remove()
    whole, quarter, none = seen[:: FAST.steps]
    assert torch.equal(0.25 * whole, quarter)
    assert not none.any()


def test_without_noise_seeds_draw_the_same(net: Loki):
    still = replace(FAST, temperature=0.0)
    assert torch.equal(draw(net, 5, still)[0], draw(net, 5, still, seed=1)[0])


def test_a_negative_temperature_is_refused():
    with pytest.raises(ValueError, match="temperature -1.0 must be finite and at least 0"):
        LokiSamplingConfig(temperature=-1.0)


def test_training_windows_as_sampled_have_one_timestep_and_noise_or_a_clean_first_frame():
    generator = torch.Generator().manual_seed(0)
    timestep, noise = torch.arange(1, 1201).reshape(400, 3), torch.randn(400, 3, 2, 1, 1)
    for share in (0.0, 0.5, 1.0):
        level, drawn = as_sampled(timestep, noise, share, generator)
        same = level[:, 1] == level[:, 2]
        assert abs(float(same.float().mean()) - share) < 0.08
        clean = level[:, 0] == 0
        assert not (clean & ~same).any()
        assert abs(float(clean.float().mean()) - share / 2) < 0.08
        assert torch.equal(drawn[same], noise[same][:, -1:].expand(-1, 3, -1, -1, -1))
        assert torch.equal(level[~same], timestep[~same])
        assert torch.equal(drawn[~same], noise[~same])


@torch.no_grad()
def test_the_past_is_seen_clean_and_kept(net: Loki):
    past = torch.randn(1, 1, TINY.sample_channels, 8, 8)
    x = torch.randn(1, 3, TINY.sample_channels, 8, 8)
    seen: list = []

    def spy(module, given):
        seen.append(given)

    condition, reference = conditions(net)
    handle = net.register_forward_pre_hook(spy)
    denoiser(net, condition, reference, past)(x, torch.tensor([700]))
    handle.remove()
    sample, timestep = seen[0][:2]
    assert torch.equal(sample[:, :1], past) and torch.equal(sample[:, 1:], x[:, 1:])
    assert timestep.tolist() == [[0, 700, 700]]


@torch.no_grad()
def test_guidance_leads_away_from_the_net_without_map_and_reference(net: Loki):
    """One pass of twice as many samples, and no sample is beyond what a picture can be."""
    condition, reference = conditions(net)
    x, level = torch.randn(1, 3, TINY.sample_channels, 8, 8), torch.tensor([700])
    timestep = level[:, None].repeat(1, 3)
    given, plain = net(x, timestep, condition, reference), net(x, timestep)
    sizes: list[int] = []
    handle = net.register_forward_pre_hook(lambda module, inputs: sizes.append(len(inputs[0])))
    for guidance in (1.0, 0.5, 9.0):
        wanted = (plain + guidance * (given - plain)).clamp(-2, 2)
        found = denoiser(net, condition, reference, guidance=guidance)(x, level)
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    handle.remove()
    assert sizes == [1, 2, 2]
    assert (found.abs() == 2).any()


@pytest.mark.parametrize("form", ["v", "noise"])
@torch.no_grad()
def test_a_net_that_knows_the_picture_gives_it_back(form: str, monkeypatch):
    """With the ideal prediction of one known sample, DDIM ends there from any noise."""
    net = Loki(replace(TINY, form=form, zero_terminal=form == "v"))
    wanted = torch.rand(1, 2, TINY.sample_channels, 8, 8)

    def ideal(sample, timestep, condition, reference):
        levels = net.schedule.at(timestep, sample)
        alpha, sigma = (v[..., None, None, None] for v in (levels.alpha, levels.sigma))
        noise = (sample - alpha * wanted) / sigma
        return alpha * noise - sigma * wanted if form == "v" else noise

    monkeypatch.setattr(net, "forward", ideal)
    noise = torch.randn(1, 2, TINY.sample_channels, 8, 8)
    levels = net.schedule.sampling_levels(5, noise)
    torch.testing.assert_close(
        ddim(denoiser(net, *conditions(net)), noise, levels), wanted, rtol=1e-3, atol=1e-3
    )
