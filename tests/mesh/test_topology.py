"""The mesh covers the picture, lips apart from each other."""

import numpy as np
from scipy.spatial import ConvexHull, Delaunay

from mien.mesh.topology import (
    INNER,
    POINTS,
    VERTICES,
    _delaunay,
    border_of,
    mean_face,
    topology,
    with_surroundings,
)
from mien.ops.rasterize import rasterize
from tests.mesh.faces import SIZE, in_picture, open_mouth


def drawn(points: np.ndarray):
    vertices = with_surroundings(points, border_of(0.0, 0.0, float(SIZE)))
    assert len(vertices) == VERTICES
    return vertices, rasterize(vertices, topology().triangles, vertices[:, :2], SIZE)


def test_no_pixel_is_left_out_by_a_face_with_closed_or_open_lips():
    for gap in (0.0, 0.1, 0.4):
        vertices, raster = drawn(in_picture(open_mouth(mean_face(), gap)))
        assert (raster.triangles >= 0).all()
        ys, xs = np.mgrid[:SIZE, :SIZE] + 0.5
        np.testing.assert_allclose(raster.values, np.stack([xs, ys], -1), atol=1e-3)


def test_triangles_of_the_mean_face_are_those_of_scipy(monkeypatch):
    plain = topology.__wrapped__()
    monkeypatch.setattr("mien.mesh.topology._delaunay", lambda p: Delaunay(p).simplices.tolist())
    other = topology.__wrapped__()
    turned = [{tuple(np.roll(t, -t.argmin())) for t in each.triangles} for each in (plain, other)]
    assert turned[0] == turned[1] and plain.inside == other.inside


def test_triangles_are_as_many_and_large_as_those_of_scipy_and_their_circles_are_empty():
    inside = np.random.default_rng(0).random((200, 2)) * (0.9, 0.4) + 0.05
    points = np.concatenate([inside, border_of(0.0, 0.0, 1.0)])
    triangles, wanted = np.array(_delaunay(points)), Delaunay(points).simplices
    sides = np.diff(points[triangles], axis=1)
    area = (sides[:, 0, 0] * sides[:, 1, 1] - sides[:, 0, 1] * sides[:, 1, 0]) / 2
    assert len(triangles) == len(wanted) and (area > 0).all()
    np.testing.assert_allclose(area.sum(), ConvexHull(points).volume)  # in a plane, its area
    corners = points[triangles]
    middle = np.stack(
        [
            np.linalg.solve(2 * (c[1:] - c[0]), np.square(c[1:]).sum(1) - np.square(c[0]).sum())
            for c in corners
        ]
    )
    radius = np.linalg.norm(corners[:, 0] - middle, axis=1)
    away = np.linalg.norm(points[None] - middle[:, None], axis=2)
    assert (away > radius[:, None] - 1e-3).all()


def test_what_is_inside_the_mouth_grows_as_it_opens():
    shape = topology()
    areas = [
        (drawn(in_picture(open_mouth(mean_face(), gap)))[1].triangles >= shape.inside).sum()
        for gap in (0.0, 0.1, 0.2, 0.4)
    ]
    assert areas[0] < 40 and areas == sorted(areas) and areas[-1] > 400


def test_only_the_inside_joins_the_upper_to_the_lower_lip():
    shape = topology()
    upper, lower = set(INNER[1:10]), set(INNER[11:])
    joins = np.array(
        [bool(upper & set(t)) and bool(lower & set(t)) for t in shape.triangles.tolist()]
    )
    assert not joins[: shape.inside].any() and joins[shape.inside :].sum() >= 16


def test_skin_is_made_of_the_face_alone():
    shape = topology()
    for corners, skin in zip(shape.triangles, shape.skin, strict=True):
        assert not skin or corners.max() < POINTS


def test_the_mean_face_is_symmetric_and_at_rest():
    face = mean_face()
    assert abs(face[[33, 263], 0].sum()) < 0.03 and abs(face[33, 1] - face[263, 1]) < 0.02
    assert 0 <= face[14, 1] - face[13, 1] < 0.05
