"""A portrait that lies on its side or its head is turned by its own face."""

import numpy as np
import pytest
import skimage.data

from mien.face import FaceMesh, quarter_turns
from mien.session.portrait import load_face

ASTRONAUT = skimage.data.astronaut()


@pytest.fixture(scope="module")
def mesh() -> FaceMesh:
    return FaceMesh()


@pytest.mark.parametrize("turns", range(4))
def test_the_face_says_how_it_lies(turns: int, mesh: FaceMesh):
    assert quarter_turns(np.ascontiguousarray(np.rot90(ASTRONAUT, -turns)), mesh) == turns


def test_what_shows_no_face_stays_as_it_is(mesh: FaceMesh):
    assert quarter_turns(np.full((64, 64, 3), 90, np.uint8), mesh) == 0


@pytest.mark.parametrize("turns", [1, 2, 3])
@pytest.mark.real_world("lying portraits")
def test_a_lying_portrait_is_framed_like_the_upright_one(turns: int):
    upright, notes = load_face(ASTRONAUT, None, 128)
    assert notes == ()
    turned, said = load_face(np.ascontiguousarray(np.rot90(ASTRONAUT, -turns)), None, 128)
    assert said == (f"the face in the picture is not upright: turned by {90 * turns} degrees",)
    assert (turned - upright).abs().mean() < 0.02
