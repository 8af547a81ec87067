"""Other walls behind people who stand before a blue one."""

from dataclasses import replace

import torch

from mien.data.augment import augment_pair
from mien.data.backdrop import draw_backdrop, matte_of, without_spill
from mien.ops.warp import identity_grid, warp_map
from mien.types import FramePair
from tests.data.test_augment import NOTHING

SIZE = 96
WALL = torch.tensor([40.0, 150.0, 220.0]).view(3, 1, 1) / 127.5 - 1


def studio(x: float = 0.0, seed: int = 0) -> torch.Tensor:
    """Somebody round, with a face of many colours, before a wall that is lit from one side."""
    grid = identity_grid(SIZE, SIZE, like=torch.zeros(1))
    inside = ((grid - torch.tensor([x, 0.2])) / torch.tensor([0.5, 0.7])).square().sum(-1) < 1
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 8, 8, generator=generator) * 2 - 1
    skin = torch.nn.functional.interpolate(coarse, (SIZE, SIZE), mode="bicubic")[0].clamp(-1, 1)
    skin = skin * 0.3 + torch.tensor([0.3, 0.0, -0.3]).view(3, 1, 1)
    move = torch.zeros(1, SIZE, SIZE, 2)
    move[..., 0] = -x
    skin = warp_map(skin[None], move)[0]
    lit = WALL + 0.15 * grid[..., :1].permute(2, 0, 1)
    return torch.where(inside, skin, lit.clamp(-1, 1))


def person(x: float = 0.0, margin: float = 0.05) -> torch.Tensor:
    """So far inside the person of `studio`."""
    grid = identity_grid(SIZE, SIZE, like=torch.zeros(1))
    size = torch.tensor([0.5, 0.7]) - margin
    return ((grid - torch.tensor([x, 0.2])) / size).square().sum(-1) < 1


def augmented(
    source: torch.Tensor, driving: torch.Tensor, seed: int = 0, **changes: float
) -> FramePair:
    """The pair with nothing done to it but these changes; no mouth is marked."""
    generator = torch.Generator().manual_seed(seed)
    return augment_pair(
        source, driving, torch.zeros(1, SIZE, SIZE), replace(NOTHING, **changes), generator
    )


def test_a_blue_wall_is_told_from_the_person():
    matte = matte_of(studio())
    assert matte is not None
    assert matte[0][person()].min() > 0.9
    assert matte[0, :20, :20].max() < 0.1


def test_other_walls_are_left_alone():
    for colour in ([90.0, 90.0, 90.0], [200.0, 60.0, 50.0], [70.0, 80.0, 100.0]):
        wall = torch.tensor(colour).view(3, 1, 1) / 127.5 - 1
        picture = torch.where(person(), studio(), wall)
        assert matte_of(picture) is None
        drawn = augmented(picture, picture, backdrop=1.0)
        torch.testing.assert_close(drawn.source[0], picture, rtol=0, atol=1e-3)


def test_the_wall_changes_and_the_person_does_not():
    picture = studio()
    for seed in range(4):
        drawn = augmented(picture, picture, seed, backdrop=1.0).source[0]
        wanted = without_spill(picture)
        torch.testing.assert_close(drawn[:, person()], wanted[:, person()], rtol=0, atol=0.05)
        assert (drawn - picture)[:, :20, :20].abs().mean() > 0.1


def test_the_wall_stands_still_while_the_person_moves():
    drawn = augmented(studio(0.0), studio(0.12), 1, backdrop=1.0, flow=1.0)
    displacement, confidence = drawn.displacement[0], drawn.displacement_confidence[0, ..., 0]
    assert displacement[:12].abs().max() == 0 and (confidence[:12] == 1).all()
    inner = person(0.12) & (confidence > 0.5)
    assert inner.sum() > 0.5 * person(0.12).sum()
    assert abs(displacement[inner][:, 0].mean() + 0.12) < 0.02
    # What the person uncovers cannot be read from the source: no confidence there.
    uncovered = person(0.0, 0.03) & ~person(0.12, -0.03)
    assert uncovered.sum() > 50 and confidence[uncovered].max() == 0
    # Where it is certain, the displacement explains the driving frame.
    again = warp_map(drawn.source, drawn.displacement)
    error = (again - drawn.driving).abs().mean(dim=1)[0]
    assert error[confidence > 0.9].mean() < 0.03


def test_backdrops_differ_and_follow_the_seed():
    pictures = [draw_backdrop(64, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert torch.equal(pictures[0], pictures[1])
    assert (pictures[0] - pictures[2]).abs().mean() > 0.1
    assert all(p.shape == (3, 64, 64) and p.abs().max() <= 1 for p in pictures)
    assert torch.stack([draw_backdrop(64, torch.Generator().manual_seed(s)).std()
                        for s in range(20)]).mean() > 0.1  # fmt: skip


def test_a_tone_curve_changes_both_frames_alike():
    picture = studio()
    pair = augmented(picture, picture, tone=1.0)
    assert (pair.source[0] - picture).abs().mean() > 0.05
    assert torch.equal(pair.source, pair.driving)
