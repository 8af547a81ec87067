"""Condition maps: where things are drawn, what values they hold, and what does not change them."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial import KDTree

from mien.face_model.coefficients import FaceCoefficients
from mien.face_model.maps import FaceMaps, _head_coordinates, draw_maps, head_box, head_triangles
from mien.face_model.parametric import FaceModel
from tests.face_model.faces import coefficients

SIZE = 64


@pytest.fixture(scope="module")
def face(model: FaceModel) -> FaceCoefficients:
    return coefficients(model, t=3, seed=1)


def still(face: FaceCoefficients, **expression: float) -> FaceCoefficients:
    """The first frame, from the front and at rest but for some expressions."""
    names = FaceModel.load().expression_names
    one = face.at(slice(0, 1))
    weights = np.array([[expression.get(name, 0.0) for name in names]])
    return replace(
        one,
        expression=weights,
        rotation=0 * one.rotation,
        eyes=0 * one.eyes,
        translation=np.array([[0.0, 0.0, 100.0]]),
    )


def test_projected_positions_are_the_places_of_the_pixels_in_the_box(model, face):
    maps = draw_maps(model, face, head_box(model, face), SIZE)
    places = (np.arange(SIZE) + 0.5) / SIZE * 2 - 1
    for t in range(len(face)):
        row, column = np.nonzero(maps.covered[t])
        # Perspective weights are linear in space: x over depth, not x itself, is exact at a pixel.
        np.testing.assert_allclose(maps.positions[t, 0, row, column], places[column], atol=2e-2)
        np.testing.assert_allclose(maps.positions[t, 1, row, column], places[row], atol=2e-2)
    assert 0.25 < maps.covered.mean() < 0.8


def test_depth_has_the_unit_of_x_and_y(model, face):
    front, size = still(face), 128
    box = head_box(model, front)
    there = draw_maps(model, front, box, size)
    turned = replace(front, rotation=np.array([[0.0, np.radians(40), 0.0]]))
    seen = draw_maps(model, turned, box, size)
    nose = np.unravel_index(
        np.where(there.covered[0], there.positions[0, 2], 9).argmin(), (size,) * 2
    )
    x, z = there.positions[0, 0][nose], there.positions[0, 2][nose]
    nearest = np.where(seen.covered[0], seen.positions[0, 2], 9)
    assert z < -0.2
    wanted = z * np.cos(np.radians(40)) - x * np.sin(np.radians(40))
    assert nearest.min() == pytest.approx(wanted, abs=0.08)


def test_everything_is_zero_off_the_mesh_and_nothing_is_drawn_below_the_neck(model, face):
    box = 0.0, 0.0, float(face.camera.width), float(face.camera.height)
    maps = draw_maps(model, face, box, SIZE)
    off = ~maps.covered
    assert not maps.positions.transpose(0, 2, 3, 1)[off].any()
    assert not maps.offsets.transpose(0, 2, 3, 1)[off].any()
    neck = model.neutral[np.setdiff1d(model.triangles, head_triangles(model))]
    assert len(neck) > 500 and neck[:, 1].min() > 7.6  # the chin, in centimetres
    lowest = maps.positions[:, 1].max()  # cut within triangles: the lowest row is an even edge
    front = draw_maps(model, still(face), box, 256)
    rows = np.where(front.covered[0].any(axis=0), front.covered[0][::-1].argmax(axis=0), 0)
    middle = rows[110:146]
    assert lowest < 1 and np.abs(np.diff(middle)).max() <= 1


def test_offsets_are_zero_at_rest_and_grow_with_the_expression(model, face):
    box = head_box(model, still(face))
    assert not draw_maps(model, still(face), box, SIZE).offsets.any()
    half = draw_maps(model, still(face, jawOpen=0.3), box, SIZE).offsets
    chin = half[0, 1, SIZE // 2 :].max()
    assert chin > 1  # down, in standard deviations
    whole = draw_maps(model, still(face, jawOpen=0.6), box, SIZE).offsets
    assert whole[0, 1, SIZE // 2 :].max() == pytest.approx(2 * chin, rel=0.05)
    assert np.abs(whole[0, :, : SIZE // 4]).max() < 0.1 * chin  # the forehead


def regions_in(model: FaceModel, maps: FaceMaps) -> list[str]:
    """The region of the vertex that is nearest to each pixel's neutral position, frame 0."""
    shown = maps.positions[0].transpose(1, 2, 0)[maps.covered[0]]
    _, nearest = KDTree(_head_coordinates(model)).query(shown)
    return [model.region_names[number] for number in model.region[nearest]]


def test_an_open_mouth_shows_what_is_inside_and_a_shut_one_does_not(model, face):
    box = head_box(model, still(face))
    shut = regions_in(model, draw_maps(model, still(face), box, 128, "neutral"))
    wide = still(face, jawOpen=0.8, mouthUpperUpLeft=1.0, mouthUpperUpRight=1.0)
    open_ = regions_in(model, draw_maps(model, wide, box, 128, "neutral"))
    for name, least in (("teeth", 20), ("gums_tongue", 20)):
        assert shut.count(name) < 5 and open_.count(name) > least, name
    for name in ("eye_left", "eye_right"):
        assert shut.count(name) > 10 and open_.count(name) > 10, name
    blink = still(face, eyeBlinkLeft=1.0)
    closed = regions_in(model, draw_maps(model, blink, box, 128, "neutral"))
    assert closed.count("eye_left") < 0.3 * shut.count("eye_left")
    assert closed.count("eye_right") == shut.count("eye_right")


def test_the_same_head_far_away_and_in_a_larger_picture_gives_the_same_maps(model, face):
    maps = draw_maps(model, face, (20.0, 10.0, 220.0, 210.0), SIZE)
    camera = replace(face.camera, width=512, height=512)
    large = replace(face, camera=camera)
    again = draw_maps(model, large, (40.0, 20.0, 440.0, 420.0), SIZE)
    assert (maps.covered != again.covered).mean() < 1e-3
    same = maps.covered & again.covered
    for one, other in ((maps.positions, again.positions), (maps.offsets, again.offsets)):
        apart = np.abs(one - other).max(axis=1)[same]
        assert (apart < 1e-3).mean() > 0.995  # single pixels at edges take another triangle


def test_neutral_positions_follow_the_face_and_not_the_picture(model, face):
    front = still(face)
    box = head_box(model, front)
    moved = replace(front, translation=front.translation + (1.0, 0.5, 0.0))
    shift = np.subtract(head_box(model, moved), box)
    one = draw_maps(model, front, box, SIZE, "neutral")
    other = draw_maps(model, moved, tuple((np.array(box) + shift).tolist()), SIZE, "neutral")
    same = one.covered & other.covered
    assert same.sum() > 0.9 * one.covered.sum()
    apart = np.abs(one.positions - other.positions).max(axis=1)[same]
    assert np.median(apart) < 0.03
    assert np.abs(one.positions).max() <= 1


def test_frames_are_drawn_one_by_one_as_together(model, face):
    box = head_box(model, face)
    together = draw_maps(model, face, box, SIZE)
    for t in range(len(face)):
        alone = draw_maps(model, face.at(slice(t, t + 1)), box, SIZE)
        np.testing.assert_array_equal(alone.covered[0], together.covered[t])
        np.testing.assert_allclose(alone.offsets[0], together.offsets[t], atol=1e-4)
