"""Means of maps over the cells of other grids."""

import pytest
import torch
from torch.nn import functional as F

from mien.data.flow import measure_flow
from mien.ops.warp import pool_plane


@pytest.mark.parametrize("size", [4, 12, 24, 10, 48])
def test_means_over_cells_whole_or_not_are_those_of_pooling(size):
    plane = torch.randn(2, 24, 24, 3)
    expected = F.adaptive_avg_pool2d(plane.permute(0, 3, 1, 2), size).permute(0, 2, 3, 1)
    torch.testing.assert_close(pool_plane(plane, size), expected)
    expanded = plane[:1].expand(3, -1, -1, -1)
    torch.testing.assert_close(pool_plane(expanded, size), expected[:1].expand(3, -1, -1, -1))


@pytest.mark.parametrize("size", [96, 512])
def test_flow_has_the_size_of_the_pictures_whatever_it_is_measured_at(size):
    pictures = torch.rand(2, 3, size, size) * 2 - 1
    flow, confidence = measure_flow(*pictures)
    assert flow.shape == (size, size, 2) and confidence.shape == (size, size, 1)
