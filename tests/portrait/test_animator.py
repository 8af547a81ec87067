import pytest
import torch
from einops import rearrange
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from mien.ops.warp import identity_grid, resize_displacement
from mien.portrait.animator import Animator, AnimatorConfig
from mien.portrait.region_attention import mean_flow
from tests.portrait.tiny import awake, pictures, tiny_animator

EVERY_KIND = [
    {},
    {"decoder": "spade", "warped_skips": False, "attention_volume": True},
    {"image_size": 128, "upscale": 2},
    {"decoder": "none"},
    {"decoder": "none", "image_size": 128, "upscale": 2},
    {"occlusion": "multiply", "warped_skips": False, "depth_pooling": "space_and_depth"},
    {"use_appearance": False},
    {"deviation_layers": 0},
    {"use_attention": False},
]


@pytest.mark.parametrize("changes", EVERY_KIND, ids=str)
def test_driving_equal_to_source_gives_the_identity_field_and_the_plain_reconstruction(changes):
    animator = awake(tiny_animator(**changes))
    source = pictures(2, animator.config.image_size)
    with torch.no_grad():
        appearance = animator.encode_appearance(source)
        motion = animator.encode_motion(source)
        drawn = animator.draw(appearance, motion, motion[:, None])
        plain = animator.reconstruct(appearance)
    assert drawn.field.displacement.abs().max() <= 1e-6
    torch.testing.assert_close(drawn.frames, plain, rtol=0, atol=1e-6)


@pytest.mark.parametrize("changes", EVERY_KIND, ids=str)
def test_other_motion_moves_the_field_and_the_frame(changes):
    animator = awake(tiny_animator(**changes))
    source, driving = pictures(2, animator.config.image_size).chunk(2)
    with torch.no_grad():
        appearance = animator.encode_appearance(source)
        drawn = animator.draw(
            appearance, animator.encode_motion(source), animator.encode_motion(driving)[:, None]
        )
        plain = animator.reconstruct(appearance)
    assert drawn.field.displacement.abs().max() > 1e-4
    assert (drawn.frames - plain).abs().max() > 1e-4


@pytest.mark.parametrize("changes", EVERY_KIND, ids=str)
def test_every_parameter_gets_a_gradient(changes):
    animator = tiny_animator(**changes).train()
    source, driving = pictures(4, animator.config.image_size).chunk(2)
    for _ in range(2):  # the running statistics settle on the first pass
        animator.zero_grad()
        frames = animator(source, driving[:, None])
        (frames - driving[:, None]).abs().mean().backward()
    without = [
        name
        for name, parameter in animator.named_parameters()
        if parameter.grad is None or not parameter.grad.abs().max() > 0
    ]
    # With one share for all, nothing has to be decided about places; without F_A nothing reads it.
    allowed = "appearance_vector" if changes == {"use_appearance": False} else "\0"
    assert [name for name in without if not name.startswith(allowed)] == []


def test_without_a_decoder_the_frame_is_the_picture_moved_by_the_field():
    animator = awake(tiny_animator(decoder="none", max_displacement=0.5))
    source, driving = pictures(2).chunk(2)
    with torch.no_grad():
        appearance, own = animator.encode_appearance(source), animator.encode_motion(source)
        drawn = animator.draw(appearance, own, animator.encode_motion(driving)[:, None])
    flow = resize_displacement(mean_flow(drawn.field.displacement, drawn.field.mask), 64, 64)
    places = identity_grid(64, 64, like=flow) + flow
    expected = F.grid_sample(source, places, padding_mode="border", align_corners=False)
    torch.testing.assert_close(drawn.frames, expected, rtol=0, atol=1e-5)
    assert not appearance.skips and not list(animator.frame_decoder.parameters())


def test_a_batch_of_two_equals_two_batches_of_one():
    animator = awake(tiny_animator())
    source, driving = pictures(4).chunk(2)
    with torch.no_grad():
        both = animator(source, driving[:, None])
        single = [animator(source[i : i + 1], driving[i : i + 1, None]) for i in range(2)]
    torch.testing.assert_close(both, torch.cat(single), rtol=0, atol=1e-5)


def test_frames_far_apart_do_not_change_each_other():
    animator = awake(tiny_animator())
    context = animator.config.temporal_context
    source = pictures(1)
    motion = torch.randn(1, 9, 768)
    other = motion.clone()
    other[:, 4 + context + 1 :] = 0
    with torch.no_grad():
        appearance, source_motion = (
            animator.encode_appearance(source),
            animator.encode_motion(source),
        )
        a = animator.render(appearance, source_motion, motion)
        b = animator.render(appearance, source_motion, other)
    assert context == 2
    torch.testing.assert_close(a[:, :5], b[:, :5], rtol=0, atol=1e-6)
    assert (a[:, 5] - b[:, 5]).abs().max() > 1e-5


def test_weights_trained_small_draw_at_twice_the_size():
    small = awake(tiny_animator())
    large = Animator(AnimatorConfig(**{**vars(small.config), "image_size": 128}))
    large.load_state_dict(small.state_dict())
    with torch.no_grad():
        frames = large.eval()(pictures(1, 128), pictures(1, 128, seed=3)[:, None])
    assert frames.shape == (1, 1, 3, 128, 128)
    assert frames.abs().max() <= 1


@settings(max_examples=10, deadline=None)
@given(batch=st.integers(1, 3), frames=st.integers(1, 5))
def test_shapes_hold_for_any_batch_and_length(batch, frames):
    animator = awake(tiny_animator())
    driving = rearrange(pictures(batch * frames), "(b t) c h w -> b t c h w", b=batch)
    with torch.no_grad():
        out = animator(pictures(batch), driving)
    assert out.shape == driving.shape
    assert torch.isfinite(out).all()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"image_size": 66}, "image_size 66"),
        ({"lift_channels": (8,)}, "lift_channels"),
        ({"temporal_kernel": 2}, "temporal_kernel 2"),
        ({"field_size": 24, "lift_channels": (8, 8)}, "field_size 24"),
        ({"decoder": "spade"}, "warped_skips"),
        ({"decoder": "none", "warped_skips": False}, "warped_skips"),
        ({"deviation_heads": 3}, "deviation_heads 3"),
        ({"upscale": 3, "image_size": 96}, "upscale 3"),
    ],
)
def test_a_config_that_cannot_be_built_says_why(changes, words):
    with pytest.raises(ValueError, match=words):
        tiny_animator(**changes)


def test_frames_that_are_only_looked_at_are_not_drawn_and_change_what_is():
    animator = awake(tiny_animator())
    source, driving = pictures(1), pictures(3, seed=9)
    appearance, own = animator.encode_appearance(source), animator.encode_motion(source)
    motion = animator.encode_motion(driving)[None]
    with torch.no_grad():
        whole = animator.render(appearance, own, motion)
        middle = animator.render(appearance, own, motion, drawn=slice(1, 2))
        alone = animator.render(appearance, own, motion[:, 1:2])
    torch.testing.assert_close(middle, whole[:, 1:2])
    assert (middle - alone).abs().max() > 1e-4


def test_each_step_in_time_of_the_convolution_learns_something_else():
    animator = awake(tiny_animator()).train()
    source, driving = pictures(1), pictures(3, seed=9)
    motion = animator.encode_motion(driving)[None]
    frames = animator.render(
        animator.encode_appearance(source),
        animator.encode_motion(source),
        motion,
        drawn=slice(1, 2),
    )
    frames.square().sum().backward()
    taps = animator.deviation_transformer.convolutions[0].weight.grad.unbind(dim=2)
    assert (
        len(taps) == 3
        and not torch.allclose(taps[0], taps[1])
        and not torch.allclose(taps[1], taps[2])
    )
