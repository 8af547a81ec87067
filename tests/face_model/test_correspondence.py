"""FaceMesh's points on the model's surface: where they must lie, and that they move right."""

import numpy as np
import pytest

from mien.face_model.correspondence import LANDMARKS_68, Correspondence, _closest
from mien.face_model.parametric import FaceModel
from mien.mesh.alignment import similarity
from mien.mesh.topology import EYE_CORNERS, INNER, LIDS, POINTS, mean_face


@pytest.fixture(scope="module")
def points(model) -> Correspondence:
    assert model.points is not None
    return model.points


def moved(model: FaceModel, points: Correspondence, name: str) -> np.ndarray:
    return points.read(model.expression_axes[model.expression_names.index(name)])


def test_points_lie_on_skin_and_are_weighted_means(model, points):
    assert len(points.corners) == POINTS == len(points.weights)
    assert np.isin(points.corners, model.vertices_of("face")).all()
    assert (points.weights >= -1e-9).all()
    np.testing.assert_allclose(points.weights.sum(axis=1), 1, atol=1e-5)


def test_places_with_shifts_are_facemeshs_mean_face(model, points):
    face = mean_face() * (1, 1, 0.88)
    places = points.read(model.neutral) + points.shifts
    again = similarity(places.astype(np.float64), face).to_picture(face)
    pairs = {point for eye in LIDS for lid in eye for point in lid} | set(INNER)
    others = sorted(set(range(POINTS)) - pairs)
    np.testing.assert_allclose(again[others], places[others], atol=3e-3)
    np.testing.assert_allclose(again, places, atol=0.15)
    half = len(INNER) // 2
    for shifts in (points.shifts, points.landmarker_shifts):
        for upper, lower in LIDS:
            np.testing.assert_allclose(shifts[list(upper)], shifts[list(lower)], atol=1e-6)
        above, below = list(INNER[1:half]), list(INNER[:half:-1])
        np.testing.assert_allclose(shifts[above], shifts[below], atol=1e-6)
    assert np.linalg.norm(points.shifts, axis=1).mean() < 0.4  # centimetres
    assert len(set(LANDMARKS_68)) == 68


def test_both_sides_are_alike(model, points):
    places = points.read(model.neutral)
    for left, right in ((291, 61), (263, 33), (362, 133), (386, 159), (334, 105), (454, 234)):
        np.testing.assert_allclose(places[left] * (-1, 1, 1), places[right], atol=0.25)


def test_lips_and_lids_part_where_they_are_two(model, points):
    opened = moved(model, points, "jawOpen")
    assert opened[14, 1] > 1 and abs(opened[13, 1]) < 0.3
    half = len(INNER) // 2
    for upper, lower in zip(INNER[3 : half - 2], INNER[-3 : half + 2 : -1], strict=True):
        assert opened[lower, 1] - opened[upper, 1] > 0.5
    shut = moved(model, points, "eyeBlinkLeft")
    upper, lower = LIDS[1]
    assert shut[list(upper), 1].max() > 0.4 and abs(shut[list(lower), 1]).max() < 0.35
    assert np.abs(shut[list(LIDS[0][0])]).max() < 0.01, "the other eye stays"
    assert np.abs(shut[list(EYE_CORNERS)]).max() < 0.25


def test_the_closest_place_may_be_inside_on_an_edge_or_a_corner():
    neutral = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [5, 5, 5], [6, 5, 5], [5, 6, 5]])
    skin = np.array([[0, 1, 2], [3, 4, 5]])
    places = np.array([[0.2, 0.3, 1.0], [0.5, -1, 0], [-1, -1, 0], [1, 1, 0]])
    found = _closest(neutral, skin, places)
    wanted = [[0.2, 0.3, 0], [0.5, 0, 0], [0, 0, 0], [0.5, 0.5, 0]]
    np.testing.assert_allclose(found.read(neutral), wanted, atol=1e-12)
