import pytest
import torch

from mien.nn.attention import SelfAttention
from mien.nn.embedding import NoiseLevelEmbedding, apply_rotary, sinusoids
from mien.nn.modulation import Modulation, PlainNorm


def test_only_distances_between_positions_matter():
    net = SelfAttention(16, heads=2)
    tokens = torch.randn(1, 6, 16)
    place = torch.arange(6)
    torch.testing.assert_close(net(tokens, place), net(tokens, place + 40), atol=1e-5, rtol=1e-4)
    assert not torch.allclose(net(tokens, place), net(tokens, 3 * place))


def test_a_rotation_keeps_lengths_and_position_zero_keeps_everything():
    x = torch.randn(2, 3, 5, 8)
    torch.testing.assert_close(apply_rotary(x, torch.zeros(5)), x)
    turned = apply_rotary(x, torch.arange(5))
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1))


def test_order_in_memory_does_not_matter_when_positions_travel_along():
    net = SelfAttention(16, heads=2)
    tokens, place, order = torch.randn(1, 6, 16), torch.arange(6), torch.randperm(6)
    torch.testing.assert_close(net(tokens, place)[:, order], net(tokens[:, order], place[order]))


def test_heads_that_do_not_divide_the_width_are_refused_with_both_numbers():
    with pytest.raises(ValueError, match="width 10 is not a multiple of heads 4"):
        SelfAttention(10, heads=4)


def test_sinusoids_start_at_one_and_zero_and_tell_values_apart():
    waves = sinusoids(torch.tensor([0.0, 1.0, 500.0]), 8)
    torch.testing.assert_close(waves[0], torch.tensor([1.0] * 4 + [0.0] * 4))
    assert torch.cdist(waves, waves)[~torch.eye(3, dtype=torch.bool)].min() > 0.5
    with pytest.raises(ValueError, match="even number"):
        sinusoids(torch.zeros(1), 7)


def test_near_levels_get_different_vectors():
    embedded = NoiseLevelEmbedding(32)(torch.tensor([0.5, 0.51]))
    assert not torch.allclose(embedded[0], embedded[1], atol=1e-3)


def test_modulation_starts_as_nothing():
    parts = Modulation(4, 8, parts=3)(torch.randn(2, 5, 4))
    assert len(parts) == 3 and all(p.shape == (2, 5, 8) and not p.any() for p in parts)
    tokens = torch.randn(2, 5, 8)
    norm = PlainNorm(8)
    torch.testing.assert_close(norm.modulated(tokens, parts[0], parts[1]), norm(tokens))
    assert not list(norm.parameters())
