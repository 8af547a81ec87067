"""A net that draws twice the encoded size starts from one that draws that size."""

import pytest
import torch
import torch.nn.functional as F

from mien.mesh.guide import no_guide
from mien.portrait.frame_decoder import with_larger_head
from tests.portrait.tiny import awake, pictures, tiny_animator


@pytest.mark.parametrize("changes", [{}, {"guide": True}, {"warped_skips": False}])
def test_it_draws_the_same_picture_larger(changes: dict):
    small = awake(tiny_animator(**changes))
    large = tiny_animator(**changes, image_size=128, upscale=2).eval()
    large.load_state_dict(with_larger_head(small.state_dict(), 2))
    source, driving = pictures(2, 64).split(1)
    guided = changes.get("guide", False)
    drawn = []
    with torch.no_grad():
        for net, zoom in ((small, 1), (large, 2)):
            picture = F.interpolate(source, scale_factor=zoom, mode="nearest")
            motions = net.encode_motion(source), net.encode_motion(driving)[:, None]
            guide = no_guide(64 * zoom) if guided else None
            drawn.append(net.render(net.encode_appearance(picture), *motions, guide)[:, 0])
    assert drawn[1].shape[-1] == 128
    # Between pixels that were doubled the larger net reads places a little otherwise.
    error = (F.avg_pool2d(drawn[1], 2) - drawn[0]).abs()
    change = (drawn[0] - source).abs().mean()
    assert error.mean() < 0.02 and error.mean() < 0.1 * change


def test_a_net_that_does_not_move_is_drawn_the_same_to_the_bit():
    small = awake(tiny_animator())
    large = tiny_animator(image_size=128, upscale=2).eval()
    large.load_state_dict(with_larger_head(small.state_dict(), 2))
    source = pictures(1, 64)
    doubled = F.interpolate(source, scale_factor=2, mode="nearest")
    with torch.no_grad():
        drawn = small.reconstruct(small.encode_appearance(source))
        larger = large.reconstruct(large.encode_appearance(doubled))
    torch.testing.assert_close(
        larger, F.interpolate(drawn, scale_factor=2, mode="nearest"), atol=1e-5, rtol=0
    )
