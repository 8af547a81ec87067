"""Meshes of a training pair go through the augmentation as the pictures do."""

import pytest
import torch

from mien.data.augment import AugmentConfig, augment_pair
from mien.data.guides import carried, guide_of_pair
from mien.mesh.topology import mean_face
from mien.ops.warp import identity_grid
from tests.mesh.faces import SIZE, in_picture, open_mouth

FACE = torch.from_numpy(in_picture(mean_face()) / SIZE).float()
OPEN = torch.from_numpy(in_picture(open_mouth(mean_face(), 0.2)) / SIZE).float()


def bent(seed: int, size: int = 64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    points = torch.randn(1, 2, 4, 4, generator=generator) * 0.07
    bend = torch.nn.functional.interpolate(points, (size, size), mode="bicubic", align_corners=True)
    turn = torch.tensor([[-1.1, 0.1], [0.05, 0.95]])  # mirrored as well
    return identity_grid(size, size, like=turn) @ turn.T + 0.03 + bend[0].permute(1, 2, 0)


@pytest.mark.parametrize("seed", range(3))
def test_points_are_found_where_the_bent_picture_shows_them(seed: int):
    grid, points = bent(seed), FACE * 2 - 1
    moved = carried(points, grid)
    inside = moved[:, :2].abs().max(dim=1).values < 0.95
    planes = grid.permute(2, 0, 1)[None]
    read = torch.nn.functional.grid_sample(
        planes, moved[None, None, :, :2], padding_mode="border", align_corners=False
    )[0, :, 0].T
    assert inside.sum() > 400
    torch.testing.assert_close(read[inside], points[inside, :2], atol=2e-4, rtol=0)


def test_a_picture_that_was_left_alone_keeps_its_points():
    still = identity_grid(64, 64, like=FACE)
    torch.testing.assert_close(carried(FACE * 2 - 1, still), FACE * 2 - 1, atol=1e-4, rtol=1e-4)


def test_the_same_mesh_read_alike_guides_nowhere():
    grid = bent(0)
    assert not guide_of_pair(
        (FACE, FACE), (grid, grid), torch.zeros(3, *grid.shape[:2])
    ).displacement.any()


def test_a_pair_moved_on_purpose_is_guided_as_it_was_moved():
    config = AugmentConfig(same_frame=1.0, lips_alone=0.0, mouth_open=0.0, mouth_widen=0.0)
    picture = torch.rand(3, SIZE, SIZE, generator=torch.Generator().manual_seed(0)) * 2 - 1
    mouth = torch.zeros(1, SIZE, SIZE)
    mouth[:, 150:180, 100:156] = 1
    for seed in range(4):
        generator = torch.Generator().manual_seed(seed)
        pair = augment_pair(picture, picture, mouth, config, generator, (FACE, OPEN))
        assert pair.guide is not None
        skin = pair.guide.skin[0] > 0
        error = (pair.guide.displacement - pair.displacement)[0][skin].norm(dim=-1)
        move = pair.displacement[0][skin].norm(dim=-1)
        assert error.mean() < 0.15 * move.mean() + 0.002


def test_without_meshes_there_is_no_guide_and_the_pair_is_the_same():
    picture = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    mouth, config = torch.zeros(1, 64, 64), AugmentConfig()
    plain, guided = (
        augment_pair(picture, picture.flip(0), mouth, config, torch.Generator().manual_seed(7), m)
        for m in (None, (FACE, OPEN))
    )
    assert plain.guide is None and guided.guide is not None
    assert torch.equal(plain.source, guided.source) and torch.equal(plain.driving, guided.driving)


def test_a_mirrored_pair_shows_the_inside_of_its_mouth_mirrored():
    shown = torch.linspace(-1, 1, SIZE).expand(3, SIZE, SIZE).clone()  # light from a side
    still = identity_grid(SIZE, SIZE, like=shown)
    mirrored = still * torch.tensor([-1.0, 1.0])
    plain = guide_of_pair((FACE, OPEN), (still, still), shown)
    turned = guide_of_pair((FACE, OPEN), (mirrored, mirrored), shown.flip(-1))
    alpha = plain.interior[:, 3:]
    assert alpha.max() == 1 and alpha.sum() > 100
    # Newton's method finds the mirrored points within a thousandth of a pixel.
    difference = (plain.interior - turned.interior.flip(-1)) * alpha
    assert difference.abs().mean() < 1e-3 and difference.abs().max() < 0.1


def test_the_inside_of_the_mouth_is_left_out_where_lips_were_moved_on_purpose():
    picture = torch.rand(3, SIZE, SIZE, generator=torch.Generator().manual_seed(0)) * 2 - 1
    mouth = torch.zeros(1, SIZE, SIZE)
    mouth[:, 150:180, 100:156] = 1
    for same in (0.0, 1.0):
        config = AugmentConfig(same_frame=same)
        generator = torch.Generator().manual_seed(3)
        pair = augment_pair(picture, picture, mouth, config, generator, (FACE, OPEN))
        assert pair.guide is not None
        assert bool(pair.guide.interior[:, 3].any()) == (not same)
