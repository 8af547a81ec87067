"""What a guide's picture of the mouth's inside does to the frame that is drawn."""

from dataclasses import replace

import torch

from mien.mesh.guide import join_guides, no_guide
from mien.types import Guide
from tests.portrait.tiny import awake, pictures, tiny_animator

SIZE = 64


def drawn(interior: torch.Tensor | None) -> torch.Tensor:
    animator = awake(tiny_animator(guide=True))
    source, driving = pictures(2, SIZE).split(1)
    appearance = animator.encode_appearance(source)
    motions = (animator.encode_motion(x) for x in (source, driving))
    at_rest, motion = (m[:, None] if m.dim() == 2 else m for m in motions)
    guide = replace(_guide(), interior=interior) if interior is not None else _guide()
    with torch.no_grad():
        return animator.draw(appearance, at_rest[:, 0], motion, guide).frames


def _guide() -> Guide:
    guide = no_guide(SIZE)
    move = 0.05 * torch.ones(1, SIZE, SIZE, 2)
    return replace(guide, displacement=move, skin=guide.skin + 1, found=torch.ones(1))


def test_frames_are_the_same_to_the_bit_where_the_interior_is_not():
    interior = torch.zeros(1, 4, SIZE, SIZE)
    interior[:, :3] = torch.rand(1, 3, SIZE, SIZE)
    without, clear = drawn(None), drawn(interior)
    assert torch.equal(without, clear)
    interior[:, 3, 20:30, 20:40] = 0.5
    partly = drawn(interior)
    changed = (partly - without).abs().mean(dim=1)[0]
    assert changed[20:30, 20:40].mean() > 10 * changed[40:].mean()  # far below the mouth


def test_at_first_an_opaque_interior_is_what_is_seen():
    interior = torch.rand(1, 4, SIZE, SIZE) * 2 - 1
    interior[:, 3] = 1
    # 0.998 of the frame: the confidence of a fresh decoder
    torch.testing.assert_close(drawn(interior), interior[:, :3], atol=0.01, rtol=0)


def test_the_decoder_learns_how_far_to_trust_the_interior_and_what_to_make_of_it():
    animator = tiny_animator(guide=True)
    decoder = animator.frame_decoder
    assert decoder.face is not None
    interior = torch.rand(1, 4, SIZE, SIZE)
    source = pictures(1, SIZE)
    motion = animator.encode_motion(source)
    frames = animator.render(
        animator.encode_appearance(source),
        motion,
        motion[:, None],
        replace(_guide(), interior=interior),
    )
    frames.square().sum().backward()
    planes = decoder.face.weight.grad
    assert decoder.interior_confidence.grad.abs() > 0
    assert planes is not None and (planes[:, 4:].abs().amax(dim=(0, 2, 3)) > 0).all()


def test_an_interior_of_another_size_is_fitted_to_the_frame():
    interior = torch.full((1, 4, SIZE // 2, SIZE // 2), 0.25)
    interior[:, 3] = 1
    assert (drawn(interior) - 0.25).abs().max() < 0.01


def test_joined_guides_keep_each_interior():
    some = replace(no_guide(8), interior=torch.ones(1, 4, 8, 8))
    joined = join_guides([no_guide(8), some])
    assert not joined.interior[0].any() and (joined.interior[1] == 1).all()
