"""Each back end of sampling equals `grid_sample` on repeated maps."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from mien.errors import UserError
from mien.ops.sampling import PLANES, SAMPLING, sample_maps, sample_maps_torch
from mien.ops.sampling_numba import sample_maps_numba
from mien.ops.warp import identity_grid, repeat_frames, warp_map, warp_volume

BACK_ENDS = {"numba": sample_maps_numba, "torch": sample_maps_torch}


def defined(maps, places):
    repeated = maps.repeat(len(places) // len(maps), 1, 1, 1)
    return F.grid_sample(repeated, places, padding_mode="border", align_corners=False)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("channels", [1, PLANES, PLANES + 1, 24])
@pytest.mark.parametrize("maps,grids", [(1, 1), (1, 5), (3, 3), (2, 6)])
@pytest.mark.parametrize("name", BACK_ENDS)
def test_equals_grid_sample(name, maps, grids, channels, threads, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr("mien.ops.sampling_numba._LEAST", 1000)
    given = torch.randn(maps, channels, 31, 50)
    places = torch.rand(grids, 120, 90, 2) * 3 - 1.5  # many are outside
    for layout in (torch.contiguous_format, torch.channels_last):
        sampled = BACK_ENDS[name](given.contiguous(memory_format=layout), places)
        torch.testing.assert_close(sampled, defined(given, places), rtol=0, atol=1e-5)


@pytest.mark.parametrize("channels", [2, 8])
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (7, 1), (2, 2)])
def test_maps_of_a_single_row_or_column(size, channels):
    maps, places = torch.randn(1, channels, *size), torch.rand(4, 5, 6, 2) * 3 - 1.5
    sampled = sample_maps_numba(maps, places)
    torch.testing.assert_close(sampled, defined(maps, places), rtol=0, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 8])
def test_positions_that_are_no_numbers_read_the_map_all_the_same(channels):
    places = torch.tensor([float("nan"), float("inf"), -float("inf"), 1e30]).expand(1, 3, 4)
    places = torch.stack((places, places.flip(-1)), dim=-1)
    sampled = sample_maps_numba(torch.full((1, channels, 9, 9), 3.0), places)
    assert (sampled == 3).all()


@pytest.mark.parametrize("channels", [1, 8])
def test_no_grids_give_no_samples_and_grids_that_do_not_fit_are_refused(channels):
    maps = torch.randn(3, channels, 9, 9)
    assert sample_maps_numba(maps, torch.zeros(0, 4, 5, 2)).shape == (0, channels, 4, 5)
    with pytest.raises(ValueError, match="grids 5 is not a multiple of maps 3"):
        sample_maps_numba(maps, torch.zeros(5, 4, 5, 2))


def test_the_loop_runs_without_gradients_and_torch_with_them():
    maps, places = torch.randn(1, 4, 8, 8, requires_grad=True), torch.zeros(1, 8, 8, 2)
    sample_maps(maps, places).sum().backward()
    assert maps.grad is not None and maps.grad.sum() == 256
    with torch.no_grad():
        assert torch.equal(sample_maps(maps, places), sample_maps_numba(maps, places))


def test_a_back_end_that_is_named_is_used_or_refuses(monkeypatch):
    maps, places = torch.randn(1, 4, 8, 8, dtype=torch.float64), torch.zeros(1, 8, 8, 2).double()
    assert sample_maps(maps, places).dtype == torch.float64
    monkeypatch.setenv(SAMPLING.variable, "numba")
    with pytest.raises(UserError, match="float32 on the CPU"):
        sample_maps(maps, places)


@torch.no_grad()
def test_a_single_source_is_read_by_all_frames_as_its_copies_are():
    volume, moves = torch.randn(1, 5, 3, 8, 8), 0.3 * torch.randn(4, 3, 8, 8, 2)
    shared = warp_volume(repeat_frames(volume, 4), moves)
    torch.testing.assert_close(shared, warp_volume(volume.repeat(4, 1, 1, 1, 1), moves))
    picture, flow = torch.randn(1, 3, 8, 8), 0.3 * torch.randn(4, 8, 8, 2)
    shared = warp_map(repeat_frames(picture, 4), flow)
    expected = defined(picture, identity_grid(8, 8, like=flow) + flow)
    torch.testing.assert_close(shared, expected, rtol=0, atol=1e-5)


class _Frames(torch.nn.Module):
    """Samples a source's map, its layers, and maps of each frame."""

    def forward(self, source, layers, masks, places):
        frames = places.shape[0]
        picture = sample_maps(source, places)
        each = sample_maps(layers, places.repeat_interleave(3, dim=0))
        return picture, each.unflatten(0, (frames, 3)), sample_maps(masks, places)


def test_a_graph_samples_any_number_of_frames():
    def given(frames):
        torch.manual_seed(frames)
        source, layers = torch.randn(1, 5, 8, 8), torch.randn(3, 2, 8, 8)
        return source, layers, torch.randn(frames, 1, 8, 8), torch.rand(frames, 6, 7, 2) * 2 - 1

    frames = torch.export.Dim("t", min=2, max=64)
    shapes = {"source": None, "layers": None, "masks": {0: frames}, "places": {0: frames}}
    program = torch.export.export(_Frames(), given(3), dynamic_shapes=shapes, strict=False)
    assert "mien.sample_maps" in program.graph_module.code
    form: Any = {torch.ops.mien.sample_maps.default: sample_maps_torch}
    plain = program.run_decompositions(form)
    assert "mien.sample_maps" not in plain.graph_module.code
    for count in (2, 11):
        for graph in (program, plain):
            sampled = graph.module()(*given(count))
            for one, expected in zip(sampled, _Frames()(*given(count)), strict=True):
                torch.testing.assert_close(one, expected, rtol=0, atol=1e-5)
