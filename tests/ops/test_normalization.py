"""The loop for few channels equals torch's group normalisation, and is used where it is faster."""

import pytest
import torch
import torch.nn.functional as F

from mien.nn.conv import group_norm
from mien.ops import normalization
from mien.ops.normalization_numba import normalize_groups_numba

EPS = 1e-5


def maps(*shape: int, mean: float = 0.0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(0)) + mean
    return x.to(dtype).contiguous(memory_format=torch.channels_last)


def affine(channels: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.rand(channels) + 0.5, torch.randn(channels)


@pytest.mark.parametrize("silu", [False, True])
@pytest.mark.parametrize("mean", [0.0, 30.0])
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("shape, groups", [((5, 12, 16, 24), 4), ((2, 20, 8, 8), 4),
                                           ((1, 6, 64, 1), 2), ((3, 4, 32, 2), 1),
                                           ((1, 100, 8, 8), 4), ((1, 1030, 8, 8), 5)])  # fmt: skip
def test_equals_the_definition_in_double_precision(shape, groups, threads, mean, silu, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    weight, bias = affine(shape[1])
    for dtype, near in ((torch.float32, 2e-5), (torch.bfloat16, 2e-2)):
        x = maps(*shape, mean=mean, dtype=dtype)
        expected = F.group_norm(x.double(), groups, weight.double(), bias.double(), EPS)
        expected = F.silu(expected) if silu else expected
        found = normalize_groups_numba(x, groups, weight, bias, EPS, silu)
        assert found.dtype == dtype and found.is_contiguous(memory_format=torch.channels_last)
        # bfloat16 is rounded once, at the end, to its eighth digit
        torch.testing.assert_close(found.double(), expected, rtol=near / 4, atol=near / 4)


@pytest.fixture(autouse=True)
def _as_it_is_by_default(monkeypatch):
    monkeypatch.delenv("MIEN_NORM", raising=False)


def test_pixels_that_are_far_from_all_others_cost_no_more_than_with_torch():
    """Sums are taken about the first pixels, which may be the odd ones."""
    x, (weight, bias) = maps(1, 12, 256, 256), affine(12)
    x[:, :, 0] += 300
    exact = F.group_norm(x.double(), 4, weight.double(), bias.double(), EPS)
    ours, torchs = (
        (f(x, 4, weight, bias, EPS) - exact).abs().max()
        for f in (normalize_groups_numba, F.group_norm)
    )
    assert ours < 2 * torchs


def test_silu_far_from_zero_is_that_of_torch():
    weight, bias = torch.zeros(4), torch.tensor((-1000.0, -90.0, 90.0, torch.inf))
    found = normalize_groups_numba(maps(1, 4, 8, 8), 1, weight, bias, EPS, True)
    expected = F.silu(bias)[None, :, None, None].expand(1, 4, 8, 8)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-30)


def test_maps_of_other_sizes_are_left_to_torch():
    weight, bias = affine(12)
    with pytest.raises(ValueError, match="pixels 63 is not a multiple"):
        normalize_groups_numba(maps(1, 12, 9, 7), 4, weight, bias, EPS)
    with torch.no_grad():
        x = maps(1, 12, 9, 7)
        assert torch.equal(group_norm(12)(x), F.group_norm(x, 4, torch.ones(12), torch.zeros(12)))


def test_no_maps_and_numbers_that_are_none():
    weight, bias = affine(12)
    assert normalize_groups_numba(maps(0, 12, 8, 8), 4, weight, bias, EPS).shape == (0, 12, 8, 8)
    for dtype in (torch.float32, torch.bfloat16):
        x = maps(2, 12, 8, 8, dtype=dtype)
        x[0, 4, 3, 3] = torch.nan  # of group 1
        for silu in (False, True):
            found = normalize_groups_numba(x, 4, weight, bias, EPS, silu).isnan()
            assert found[0, 3:6].all() and not found[0, :3].any() and not found[1].any()


@pytest.mark.parametrize(
    "channels, dtype, loop",
    [(12, torch.float32, True), (12, torch.bfloat16, True), (24, torch.float32, False),
     (24, torch.bfloat16, True), (32, torch.bfloat16, False), (12, torch.float64, False)],
)  # fmt: skip
def test_the_loop_is_used_where_torch_is_slow_and_no_gradient_is_needed(
    channels, dtype, loop, monkeypatch
):
    used = []

    def noted(*given):
        used.append(given)
        return normalize_groups_numba(*given)

    monkeypatch.setattr("mien.ops.back_ends._outcomes", {})
    numba = normalization.BackEnd("numba", ("cpu",), lambda: noted)
    plain = normalization.NORMALIZATION.back_ends[1]
    monkeypatch.setattr(
        normalization,
        "NORMALIZATION",
        normalization.Operation("group normalisation", "MIEN_NORM", (numba, plain)),
    )
    norm, x = group_norm(channels).to(dtype), maps(2, channels, 16, 16, dtype=dtype)
    norm(x.clone().requires_grad_()).square().sum().backward()
    with torch.no_grad():
        norm(x.contiguous())
        assert not used
        found = norm(x), norm(x, silu=True)
    assert len(used) == 2 * loop
    torch.testing.assert_close(F.silu(found[0]), found[1], rtol=2e-2, atol=2e-2)


def test_mixed_precision_normalises_what_convolutions_give():
    norm, x = group_norm(12), maps(2, 12, 16, 16, dtype=torch.bfloat16)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        found = norm(x)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), norm(x.float()), rtol=1e-2, atol=1e-2)
