"""Two meshes of one head to the guide of a frame."""

import numpy as np
import torch

from mien.mesh.guide import guide_between, join_guides, no_guide
from mien.mesh.mean import mean_at_rest
from mien.mesh.topology import STABLE, mean_face
from mien.ops.warp import identity_grid
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
    assert at(guide.inside[0], moved[[13, 14]].mean(axis=0)) == 1


def test_the_head_goes_on_beyond_the_face_and_the_border_stays():
    source, moved = in_picture(mean_face()), in_picture(mean_face()) + [10.0, -6.0, 0.0]
    guide = guide_between(source, moved, SIZE)
    places = torch.cat((identity_grid(8, 8, guide.head), torch.ones(8, 8, 1)), dim=-1)
    head = torch.einsum("ij,hwj->hwi", guide.head[0], places)
    step = torch.tensor([-20 / SIZE, 12 / SIZE])
    torch.testing.assert_close(head, step.expand(8, 8, 2), atol=1e-5, rtol=0)
    corners = guide.displacement[0, [0, 0, -1, -1], [0, -1, 0, -1]]
    assert corners.abs().max() < 0.01


def test_a_turned_head_is_an_affine_move_of_its_plane():
    face = mean_face()
    source, moved = in_picture(face), in_picture(face, (0.1, 0.2, 0.05), 66.0)
    guide = guide_between(source, moved, SIZE)
    stable = moved[list(STABLE)]
    flat = stable[np.abs(stable[:, 2] - moved[[10, 152, 234, 454], 2].mean()).argmin()]
    place = torch.tensor([*(flat[:2] * 2 / SIZE - 1), 1.0], dtype=torch.float32)
    back = guide.head[0] @ place
    index = np.flatnonzero((moved == flat).all(axis=1))[0]
    wanted = (source[index] - moved[index])[:2] * 2 / SIZE
    np.testing.assert_allclose(back.numpy(), wanted, atol=0.02)


def test_guides_are_joined_with_those_that_nobody_knows():
    known = guide_between(in_picture(person(0)), in_picture(person(1)), SIZE)
    joined = join_guides([known, no_guide(SIZE)])
    assert joined.known.tolist() == [1, 0] and torch.equal(joined.skin[0], known.skin[0])
    assert not joined.displacement[1].any()


def test_the_mean_of_faces_is_found_wherever_they_are():
    turns = (-0.2, 0.0, 0.2)
    faces = [in_picture(mean_face(), (0, turn, 0), 50.0 + 200 * abs(turn)) for turn in turns]
    opened = [in_picture(open_mouth(person(i), 0.3)) for i in range(9)]
    mean = mean_at_rest(np.stack(faces + opened))
    np.testing.assert_allclose(mean, mean_face(), atol=0.02)
