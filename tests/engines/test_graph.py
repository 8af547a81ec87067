"""The graphs that engines take are in the forms which they have, or compute faster."""

import pytest
import torch
from torch.fx import GraphModule
from torch.nn import functional as F

from mien.engines.graph import KERNELS, PLAIN_FORMS, render_graph
from tests.portrait.tiny import awake, tiny_animator


@pytest.mark.parametrize(
    "kept, sampling", [((), "aten.grid_sampler.default"), (KERNELS, "mien.sample_maps.default")]
)
def test_only_what_an_engine_computes_itself_is_left(kept: tuple, sampling: str):
    animator = awake(tiny_animator(temporal_kernel=1, guide=True)).eval()
    program = render_graph(animator, 3, guided=True).export(False, kept)
    parts = [part for part in program.graph_module.modules() if isinstance(part, GraphModule)]
    called = {str(node.target) for part in parts for node in part.graph.nodes}
    assert {name for name in called if "grid_sampl" in name or "sample_maps" in name} == {sampling}
    replaced = "upsample_bilinear", "adaptive_avg_pool", "lerp"
    assert not [name for name in called if any(form in name for form in replaced)]


def test_bilinear_interpolation_is_that_of_torch():
    form, picture = PLAIN_FORMS[F.interpolate], torch.rand(2, 3, 7, 10)
    for size in (5, (14, 9)):
        expected = F.interpolate(picture, size, mode="bilinear")
        torch.testing.assert_close(form(picture, size, mode="bilinear"), expected)
    expected = F.interpolate(picture, scale_factor=2)
    torch.testing.assert_close(form(picture, scale_factor=2), expected)
