"""The compiled loops of a guided frame equal torch's operations, which define them."""

from dataclasses import replace

import pytest
import torch

from mien.mesh.guide import no_guide
from mien.ops.sampling import SAMPLING
from mien.portrait.guide import follow, guide_displacement
from mien.portrait.warped_picture import WarpedPicture
from mien.types import Guide, MotionField
from tests.portrait.tiny import awake, pictures, tiny_animator

SIDE, FIELD, FRAMES, LAYERS = 64, 16, 3, 2


def smooth(*shape: int) -> torch.Tensor:
    """Smooth random maps between 0 and 1."""
    coarse = torch.rand(*shape[:-2], 5, 5).flatten(0, -3)[None]
    maps = torch.nn.functional.interpolate(coarse, shape[-2:], mode="bilinear")
    return maps.reshape(shape)


def guide_of(frames: int, shared: bool) -> Guide:
    """A guide in which every map does something; person and background of one source, or of as many
    as there are frames.
    """
    sources = 1 if shared else frames
    found = torch.ones(frames)
    found[-1] = 0
    return Guide(
        displacement=(smooth(frames, 2, SIDE, SIDE) - 0.5).permute(0, 2, 3, 1) / 4,
        skin=smooth(frames, SIDE, SIDE),
        mouth=smooth(frames, SIDE, SIDE),
        head=torch.randn(frames, 2, 3) / 10,
        person=smooth(sources, SIDE, SIDE).expand(frames, -1, -1),
        background=smooth(sources, 3, SIDE, SIDE).expand(frames, -1, -1, -1),
        covered=smooth(frames, SIDE, SIDE),
        disoccluded=(smooth(frames, SIDE, SIDE) - 0.5).clamp(min=0),
        found=found,
        interior=smooth(frames, 4, SIDE, SIDE),
    )


def drawn(guide: Guide) -> dict[str, torch.Tensor]:
    """What the field and the frame become."""
    torch.manual_seed(1)
    frames = len(guide.found)
    field = MotionField(
        (torch.rand(frames, LAYERS, FIELD, FIELD, 2) - 0.5) / 3,
        torch.rand(frames, LAYERS, FIELD, FIELD),
        torch.rand(frames, 3, LAYERS, FIELD, FIELD),
    )
    shares = torch.rand(frames, 2, LAYERS, FIELD, FIELD) / 2
    moves = guide_displacement(guide, FIELD)
    with torch.inference_mode():
        guided = follow(field, shares, guide, moves)
        picture = pictures(1, SIDE).expand(frames, -1, -1, -1)
        frame = WarpedPicture()(picture, guided, guide)
    assert guided.fine is not None
    return {"fine": guided.fine, "displacement": guided.displacement, "frame": frame}


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("shared", [True, False])
def test_equals_torch(shared, threads, monkeypatch):
    torch.manual_seed(0)
    guide = guide_of(FRAMES, shared)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setenv(SAMPLING.variable, "torch")
    expected = drawn(guide)
    monkeypatch.setenv(SAMPLING.variable, "numba")
    for name, value in drawn(guide).items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=2e-5, msg=name)
    still = expected["frame"] - drawn(replace(guide, interior=0 * guide.interior))["frame"]
    assert still.abs().max() > 0.1, "the interior is not drawn"


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("sources", [1, 2])
def test_the_attention_reads_the_same(sources, threads, monkeypatch):
    attention = awake(tiny_animator()).dense_motion.attention
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    torch.manual_seed(2)
    volume = torch.randn(sources, 8, LAYERS, FIELD, FIELD)
    moves = (torch.rand(sources * FRAMES, 4, LAYERS, FIELD, FIELD, 2) - 0.5) / 2
    found = []
    for name in ("torch", "numba"):
        monkeypatch.setenv(SAMPLING.variable, name)
        with torch.inference_mode():
            found.append(attention.attend(*attention.prepare(volume), moves))
    torch.testing.assert_close(*found, rtol=0, atol=2e-5)


def test_equals_torch_for_empty_guides_which_share_all_maps(monkeypatch):
    empty = no_guide(SIDE)
    several = Guide(**{k: v.expand(FRAMES, *v.shape[1:]) for k, v in vars(empty).items()})
    compiled = drawn(several)
    monkeypatch.setenv(SAMPLING.variable, "torch")
    for name, value in drawn(several).items():
        torch.testing.assert_close(compiled[name], value, rtol=0, atol=2e-5, msg=name)
