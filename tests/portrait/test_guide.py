"""The guide regions: identity where nothing moves, the paper's field where no mesh is known."""

from dataclasses import replace

import pytest
import torch

from mien.portrait.guide import disocclusion, fill_background, guide_displacement, warp_person_mask
from mien.types import Guide
from tests.portrait.tiny import TINY, awake, pictures, tiny_animator

SIZE = TINY.image_size


def made_guide(frames: int, seed: int = 0, move: float = 0.1, found: float = 1.0) -> Guide:
    """A round face in the middle that moves smoothly, its mouth open below the middle."""
    generator = torch.Generator().manual_seed(seed)
    rows, columns = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    face = ((rows - 32) ** 2 + (columns - 32) ** 2 < 20**2).float().expand(frames, -1, -1)
    inside = ((rows - 42) ** 2 * 4 + (columns - 32) ** 2 < 8**2).float().expand(frames, -1, -1)
    steps = torch.randn(frames, 2, 4, 4, generator=generator) * move
    steps = torch.nn.functional.interpolate(steps, (SIZE, SIZE), mode="bilinear")
    return Guide(
        displacement=steps.permute(0, 2, 3, 1),
        skin=face * (1 - inside),
        mouth=inside,
        head=torch.randn(frames, 2, 3, generator=generator) * move,
        person=((rows - 36) ** 2 + (columns - 32) ** 2 < 28**2).float().expand(frames, -1, -1),
        background=torch.rand(frames, 3, SIZE, SIZE, generator=generator) * 2 - 1,
        covered=torch.zeros(frames, SIZE, SIZE),
        disoccluded=torch.zeros(frames, SIZE, SIZE),
        found=torch.full((frames,), found),
        interior=torch.cat((torch.ones(frames, 3, SIZE, SIZE), 0.5 * inside[:, None]), dim=1),
    )


@pytest.fixture
def guided():
    return awake(tiny_animator(guide=True))


@pytest.fixture
def scene(guided):
    source = pictures(1)
    with torch.no_grad():
        appearance, motion = guided.encode_appearance(source), guided.encode_motion(source)
        other = guided.encode_motion(pictures(3, seed=5))[None]
    return appearance, motion, other


@torch.no_grad()
def test_driving_that_is_the_source_gives_the_identity_field_exactly(guided, scene):
    appearance, motion, _ = scene
    drawn = guided.draw(appearance, motion, motion[:, None], made_guide(1, move=0.0))
    assert not drawn.field.displacement.any()
    assert drawn.field.fine is not None and not drawn.field.fine.any()


@torch.no_grad()
def test_a_mesh_that_nobody_knows_leaves_the_papers_field(guided, scene):
    appearance, motion, other = scene
    plain = guided.draw(appearance, motion, other)
    unknown = guided.draw(appearance, motion, other, made_guide(3, found=0.0))
    torch.testing.assert_close(unknown.field.displacement, plain.field.displacement)
    assert not unknown.field.regions[:, -2:].any()


@torch.no_grad()
def test_shares_of_all_regions_sum_to_one_and_the_mesh_rules_the_face():
    animator = tiny_animator(guide=True).eval()
    source = pictures(1)
    appearance, motion = animator.encode_appearance(source), animator.encode_motion(source)
    guide = made_guide(1)
    field = animator.draw(appearance, motion, motion[:, None], guide).field
    torch.testing.assert_close(field.regions.sum(dim=1), torch.ones_like(field.mask))
    mesh = field.regions[0, -2].mean(dim=0)
    assert mesh[8, 8] > 0.9 and mesh[0, 0] == pytest.approx(0.3, abs=0.02)
    # At the face's middle the picture is read where the mesh says, but for what others say.
    step = guide.displacement[0, 32, 32]
    assert (field.fine[0, 32, 32] - step).norm() < 0.25 * step.norm()


@torch.no_grad()
def test_a_batch_of_frames_equals_each_alone(scene, guided):
    appearance, motion, other = scene
    guide = made_guide(3)
    together = guided.render(appearance, motion, other, guide)
    for i in range(3):
        # The tiny net looks at neighbouring frames, so all motion is given and one guide changed.
        changed = replace(guide, displacement=guide.displacement.clone())
        changed.displacement[:i], changed.displacement[i + 1 :] = 0, 0
        alone = guided.render(appearance, motion, other, changed)
        torch.testing.assert_close(alone[:, i], together[:, i])


def test_gradients_reach_every_weight_of_the_guide():
    animator = awake(tiny_animator(guide=True)).train()
    source, driving = pictures(2), pictures(2, seed=9)
    drawn = animator.draw(
        animator.encode_appearance(source),
        animator.encode_motion(source),
        animator.encode_motion(driving)[:, None],
        made_guide(2),
    )
    (drawn.frames - driving).square().mean().backward()
    weights = dict(animator.named_parameters())
    for name in animator.guide_state():
        assert weights[name].grad is not None and weights[name].grad.abs().sum() > 0, name


@torch.no_grad()
def test_weights_without_a_guide_draw_the_same_with_one_that_is_not_asked():
    plain, guided = awake(tiny_animator()), tiny_animator(guide=True).eval()
    guided.load_state_dict(guided.guide_state() | plain.state_dict())
    source, driving = pictures(1), pictures(2, seed=3)[None]
    torch.testing.assert_close(guided(source, driving), plain(source, driving))


def test_both_moves_on_a_coarse_grid():
    guide = made_guide(2)
    moves = guide_displacement(guide, 8)
    assert moves.shape == (2, 2, 8, 8, 2)
    torch.testing.assert_close(moves[:, 0].mean(dim=(1, 2)), guide.displacement.mean(dim=(1, 2)))
    torch.testing.assert_close(moves[:, 1].mean(dim=(1, 2)), guide.head[:, :, 2])


@pytest.mark.parametrize(
    "change", [{"use_attention": False}, {"warped_skips": False}, {"attention_volume": True}]
)
def test_a_guide_needs_what_it_builds_on(change: dict):
    with pytest.raises(ValueError, match="guide needs"):
        replace(TINY, guide=True, **change)


@torch.no_grad()
def test_what_stands_behind_the_person_stays(guided, scene):
    appearance, motion, other = scene
    guide = made_guide(3)
    field = guided.draw(appearance, motion, other, guide).field
    assert field.fine is not None
    reads_person = guide.found[:, None, None] * (field.fine.norm(dim=-1) > 0)
    corners = torch.stack([reads_person[:, y, x] for y in (0, -1) for x in (0, -1)])
    assert not corners.any() and reads_person.float().mean() > 0.3
    everybody = replace(guide, person=torch.ones_like(guide.person))
    moved = guided.draw(appearance, motion, other, everybody).field
    assert moved.fine is not None and moved.fine[:, 0, 0].any()


@torch.no_grad()
def test_where_the_head_has_gone_the_background_shows(guided, scene):
    appearance, motion, other = scene
    lost = made_guide(3)
    lost.disoccluded[:, 30:34, 30:34] = 1
    field = guided.draw(appearance, motion, other, lost).field
    assert field.fine is not None and not field.fine[:, 30:34, 30:34].any()
    picture = appearance.picture.expand(3, -1, -1, -1)
    shown = fill_background(picture, lost, disocclusion(lost, warp_person_mask(lost, field.fine)))
    torch.testing.assert_close(shown[:, :, 31, 31], lost.background[:, :, 31, 31])
    still = torch.zeros_like(field.fine)
    here = made_guide(3)
    nothing = disocclusion(here, warp_person_mask(here, still))
    torch.testing.assert_close(fill_background(picture, here, nothing), picture)


@torch.no_grad()
def test_where_the_head_arrives_it_leads(guided, scene):
    appearance, motion, other = scene
    guide = made_guide(3, move=0.0)
    guide.head[:, :, 2] = torch.tensor([0.4, 0.0])  # read from further right
    guide.person = torch.zeros(3, SIZE, SIZE)
    guide.person[:, 20:44, 20:44] = 1
    guide.covered[:, 24:40, 12:18] = 1  # left of the person, who has come there
    field = guided.draw(appearance, motion, motion[:, None].expand(-1, 3, -1), guide).field
    assert field.fine is not None
    step = field.fine[:, 30, 15]
    torch.testing.assert_close(step, torch.tensor([0.4, 0.0]).expand(3, 2), atol=1e-4, rtol=0)


def test_a_guided_net_trains_in_bfloat16():
    animator = awake(tiny_animator(guide=True)).train()
    source, driving = pictures(2), pictures(2, seed=9)
    guide = made_guide(2)
    with torch.autocast("cpu", torch.bfloat16):
        drawn = animator.draw(
            animator.encode_appearance(source),
            animator.encode_motion(source),
            animator.encode_motion(driving)[:, None],
            guide,
        )
        exact = guide_displacement(guide, 8)
    assert exact.dtype == torch.float32
    drawn.frames.float().square().mean().backward()
    assert drawn.frames.isfinite().all()
