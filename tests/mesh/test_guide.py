"""Two meshes of one head to the guide of a frame."""

from dataclasses import fields

import numpy as np
import torch

from mien.face import Scene
from mien.mesh.guide import guide_between, guides_between, join_guides, no_guide
from mien.mesh.mean import mean_at_rest
from mien.mesh.topology import mean_face
from mien.ops.warp import identity_grid
from mien.types import Guide
from tests.mesh.faces import SIZE, in_picture, open_mouth, person


def at(plane: torch.Tensor, point: np.ndarray) -> np.ndarray:
    column, row = np.floor(point[:2]).astype(int)
    return plane[row, column].numpy()


def test_equal_meshes_guide_nowhere_to_the_bit():
    guide = guide_between(in_picture(person(0)), in_picture(person(0)), SIZE)
    assert not guide.displacement.any() and not guide.head.any()
    assert 0.1 < float(guide.skin.mean()) < 0.5


def test_places_of_the_moved_face_lie_where_they_were_in_the_source():
    source, moved = (in_picture(open_mouth(mean_face(), gap)) for gap in (0.0, 0.2))
    guide = guide_between(source, moved, SIZE)
    for point in (1, 152, 50, 280, 17):  # nose, chin, cheeks, under the lower lip
        wanted = (source[point] - moved[point])[:2] * 2 / SIZE
        np.testing.assert_allclose(at(guide.displacement[0], moved[point]), wanted, atol=0.012)
    assert at(guide.mouth[0], moved[[13, 14]].mean(axis=0)) == 1


def test_the_head_goes_on_beyond_the_face_and_the_border_stays():
    source, moved = in_picture(mean_face()), in_picture(mean_face()) + [10.0, -6.0, 0.0]
    guide = guide_between(source, moved, SIZE)
    places = torch.cat((identity_grid(8, 8, guide.head), torch.ones(8, 8, 1)), dim=-1)
    head = torch.einsum("ij,hwj->hwi", guide.head[0], places)
    step = torch.tensor([-20 / SIZE, 12 / SIZE])
    torch.testing.assert_close(head, step.expand(8, 8, 2), atol=1e-5, rtol=0)
    corners = guide.displacement[0, [0, 0, -1, -1], [0, -1, 0, -1]]
    assert corners.abs().max() < 0.01


def test_the_outline_of_a_head_is_scaled_rolls_and_goes_with_the_skull():
    face = mean_face()
    roll, scale = 0.2, 66.0
    source, moved = in_picture(face), in_picture(face, (0.0, 0.0, roll), scale)
    guide = guide_between(source, moved, SIZE)
    for point in (10, 152, 234, 454):  # any point of a head that rolls
        place = torch.tensor([*(moved[point, :2] * 2 / SIZE - 1), 1.0], dtype=torch.float32)
        wanted = (source[point] - moved[point])[:2] * 2 / SIZE
        np.testing.assert_allclose((guide.head[0] @ place).numpy(), wanted, atol=2e-3)
    turned = guide_between(source, in_picture(face, (0.0, 0.3, 0.0)), SIZE).head[0]
    np.testing.assert_allclose(turned[:, :2].numpy(), 0, atol=0.02)
    assert turned[0, 2].abs() > 0.1, "the skull's middle goes aside when a head turns"


def scene(person: np.ndarray) -> Scene:
    return Scene(person.astype(np.float32), np.ones((3, SIZE, SIZE), np.float32))


def test_where_a_head_has_gone_and_where_it_arrives():
    rows, columns = np.mgrid[:SIZE, :SIZE] + 0.5
    source = in_picture(mean_face())
    head = (rows - 120) ** 2 + (columns - 128) ** 2 < 80**2
    step = np.array([40.0, 0.0, 0.0])
    guide = guide_between(source, source + step, SIZE, scene=scene(head))
    assert guide.covered[0, 110, 160] > 0.9 and guide.covered[0, 110, 52] < 0.1
    assert guide.disoccluded[0, 120, 58] > 0.9, "left behind by the head"
    assert guide.disoccluded[0, 120, 120:].max() < 0.1
    still = guide_between(source, source, SIZE, scene=scene(head))
    assert not still.disoccluded.any()
    unknown = guide_between(source, source + step, SIZE)
    assert (
        not unknown.disoccluded.any() and not unknown.covered.any() and (unknown.person == 1).all()
    )


def test_the_guides_of_several_frames_are_those_of_each():
    rows, columns = np.mgrid[:SIZE, :SIZE] + 0.5
    known, source = scene((rows - 120) ** 2 + (columns - 128) ** 2 < 80**2), in_picture(person(0))
    moved = np.stack([in_picture(person(0), (0.0, turn, 0.1)) for turn in (-0.2, 0.0, 0.1, 0.3)])
    inside = np.random.default_rng(0).random((4, 4, SIZE, SIZE), np.float32)
    found = guides_between(source, moved, SIZE, inside, known)
    given = zip(moved, inside, strict=True)
    each = join_guides([guide_between(source, there, SIZE, own, known) for there, own in given])
    for field in fields(Guide):
        one, other = getattr(found, field.name), getattr(each, field.name)
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)
    assert found.covered.flatten(1).max(dim=1).values.min() > 0.5


def test_guides_are_joined_with_those_that_nobody_knows():
    known = guide_between(in_picture(person(0)), in_picture(person(1)), SIZE)
    joined = join_guides([known, no_guide(SIZE)])
    assert joined.found.tolist() == [1, 0] and torch.equal(joined.skin[0], known.skin[0])
    assert not joined.displacement[1].any()


def test_the_mean_of_faces_is_found_wherever_they_are():
    turns = (-0.2, 0.0, 0.2)
    faces = [in_picture(mean_face(), (0, turn, 0), 50.0 + 200 * abs(turn)) for turn in turns]
    opened = [in_picture(open_mouth(person(i), 0.3)) for i in range(9)]
    mean = mean_at_rest(np.stack(faces + opened))
    np.testing.assert_allclose(mean, mean_face(), atol=0.02)
