"""Both forms of the perspective rasteriser against the definition: pixels ask all triangles."""

from fractions import Fraction

import numpy as np
import pytest
import torch

from mien.ops import rasterize_torch
from mien.ops.rasterize import Faces, rasterize_perspective

HEIGHT, WIDTH = 13, 17
KINDS = "random", "on pixel centres", "shared edges", "broken"


def mesh(kind: str, seed: int):
    """Vertices of two frames, triangles, and values; most meshes leave the picture."""
    random = np.random.default_rng(seed)
    vertices = random.uniform(-6, 22, (2, 24, 3))
    vertices[..., 2] = random.uniform(1, 9, (2, 24))
    triangles = np.array([random.permutation(24)[:3] for _ in range(30)])
    if kind == "on pixel centres":
        vertices = np.floor(vertices) + 0.5
    elif kind == "shared edges":
        vertices, triangles = sheet(random)
    elif kind == "broken":
        vertices[0, 3, 2] = -2  # behind the camera
        vertices[0, 5, 2] = 0
        vertices[1, 1, 0] = np.nan
        vertices[1, 2, 1] = np.inf
        vertices[1, 4, 2] = np.inf
        vertices[1, 6, :2] = 1e200
        triangles[2] = triangles[2, 0]  # a point
        vertices[:, triangles[4, 2]] = vertices[:, triangles[4]][:, :2].mean(axis=1)  # a line
    values = random.normal(size=(2, vertices.shape[1], 3))
    return vertices, triangles, values


def sheet(random: np.random.Generator):
    """A jagged sheet of triangles that reaches beyond the picture on all sides."""
    y, x = np.mgrid[-1:15:2, -1:19:2] + 0.5  # corners on pixel centres
    flat = np.stack([x.ravel(), y.ravel(), np.full(x.size, 5.0)], axis=1)
    frames = np.stack([flat, flat])
    inner = ((flat[:, :2] > 0) & (flat[:, :2] < (17, 13))).all(axis=1)
    frames[1, inner] += random.uniform(-0.9, 0.9, (inner.sum(), 3))
    number = np.arange(x.size).reshape(x.shape)
    a, b, c, d = number[:-1, :-1], number[:-1, 1:], number[1:, :-1], number[1:, 1:]
    corners = [np.stack(three, axis=-1).reshape(-1, 3) for three in ((a, c, b), (b, c, d))]
    return frames, random.permutation(np.concatenate(corners))


def beside(vertices, i: int, j: int, x, y):
    """Twice the area from edge to point, from the lower index, as both forms compute it."""
    if i > j:
        return -beside(vertices, j, i, x, y)
    (ix, iy), (jx, jy) = vertices[i][:2], vertices[j][:2]
    return (jx - ix) * (y - iy) - (jy - iy) * (x - ix)


def by_definition(vertices, triangles, values, faces: str):
    """One frame in plain Python floats (values: numpy's float64), without any bounding box."""
    numbers = np.full((HEIGHT, WIDTH), -1)
    picture = np.zeros((values.shape[1], HEIGHT, WIDTH), np.float32)
    points = vertices.tolist()
    for row in range(HEIGHT):
        for column in range(WIDTH):
            best = 0.0
            for k, (a, b, c) in enumerate(triangles.tolist()):
                area = beside(points, a, b, *points[c][:2])
                depths = np.array([points[a][2], points[b][2], points[c][2]])
                usable = (depths > 0).all() and np.isfinite(depths).all() and np.isfinite(area)
                if not usable or abs(area) < 1e-9 or (faces == "front" and area > 0):
                    continue
                edges = ((b, c), (c, a), (a, b))
                shares = [beside(points, i, j, column + 0.5, row + 0.5) for i, j in edges]
                if area < 0:
                    shares = [-share for share in shares]
                if min(shares) < 0:
                    continue
                u, v, w = (share * (1 / z) for share, z in zip(shares, depths, strict=True))
                if (u + v + w) / abs(area) > best:
                    best, numbers[row, column] = (u + v + w) / abs(area), k
                    first, second, third = values[[a, b, c]]
                    whole = u + v + w
                    inside = first + v / whole * (second - first) + w / whole * (third - first)
                    picture[:, row, column] = inside
    return picture, numbers


def on_device(device: str, vertices, triangles, values, faces: Faces):
    """The torch form."""
    places, corners, kept = (torch.from_numpy(x).to(device) for x in (vertices, triangles, values))
    return rasterize_torch.rasterize_perspective(places, corners, kept, HEIGHT, WIDTH, faces)


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize("faces", ["both", "front"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(3))
def test_both_forms_draw_to_the_bit_what_the_definition_says(kind: str, seed: int, faces: Faces):
    vertices, triangles, values = mesh(kind, seed)
    drawn = rasterize_perspective(vertices, triangles, values, HEIGHT, WIDTH, faces)
    by_torch = on_device("cpu", vertices, triangles, values, faces)
    for i in range(2):
        picture, numbers = by_definition(vertices[i], triangles, values[i], faces)
        np.testing.assert_array_equal(drawn.triangles[i], numbers)
        np.testing.assert_array_equal(drawn.values[i], picture)
        assert (numbers >= 0).any()
    np.testing.assert_array_equal(by_torch.triangles.numpy(), drawn.triangles)
    np.testing.assert_array_equal(by_torch.values.numpy(), drawn.values)
    np.testing.assert_array_equal(by_torch.covered.numpy(), drawn.covered)


@pytest.mark.parametrize("seed", range(3))
def test_coverage_and_depth_are_those_of_exact_arithmetic(seed: int):
    vertices, triangles, values = mesh("on pixel centres", seed)
    drawn = rasterize_perspective(vertices, triangles, values, HEIGHT, WIDTH)
    points = [[Fraction(x) for x in point] for point in vertices[0]]
    for row in range(HEIGHT):
        for column in range(WIDTH):
            near = {}
            for k, (a, b, c) in enumerate(triangles.tolist()):
                area = beside(points, a, b, *points[c][:2])
                edges = ((b, c), (c, a), (a, b))
                at = Fraction(column) + Fraction(1, 2), Fraction(row) + Fraction(1, 2)
                shares = [beside(points, i, j, *at) / area for i, j in edges] if area else [-1]
                if min(shares) >= 0:
                    near[k] = sum(s / points[i][2] for s, i in zip(shares, (a, b, c), strict=True))
            chosen = drawn.triangles[0, row, column]
            assert (chosen >= 0) == bool(near)
            if near:  # of triangles that meet there, rounding decides
                assert near[chosen] >= max(near.values()) * (1 - Fraction(1, 10**12))


@pytest.mark.parametrize("seed", range(5))
def test_triangles_that_share_edges_leave_no_gap_and_no_pixel_to_both(seed: int):
    vertices, triangles, values = mesh("shared edges", seed)
    drawn = rasterize_perspective(vertices, triangles, values, HEIGHT, WIDTH)
    assert drawn.covered.all()
    alone = [
        rasterize_perspective(vertices[1:], triangle[None], values[1:], HEIGHT, WIDTH).covered
        for triangle in triangles
    ]
    assert (np.sum(alone, axis=0)[0, 3:-3, 3:-3] == 1).mean() > 0.9  # the rest lies on an edge


def test_values_are_interpolated_where_the_rays_meet_the_surface():
    focal, size = 20.0, 32
    normal, offset = np.array([0.5, -0.3, -1.0]), -4.0  # the plane normal . p = offset
    corners = np.array([[-9.0, -9], [9, -9], [-9, 9], [9, 9]])
    z = (offset - corners @ normal[:2]) / normal[2]
    z_positive = np.column_stack([corners, z])
    assert (z > 0).sum() >= 3
    space = z_positive[z > 0][:3]
    picture = np.column_stack([space[:, :2] / space[:, 2:] * focal + size / 2, space[:, 2]])
    drawn = rasterize_perspective(picture[None], np.array([[0, 1, 2]]), space[None], size, size)
    row, column = np.nonzero(drawn.covered[0])
    rays = np.column_stack(
        [(column + 0.5 - size / 2) / focal, (row + 0.5 - size / 2) / focal, np.ones(len(row))]
    )
    met = rays * (offset / (rays @ normal))[:, None]
    assert len(row) > 100
    np.testing.assert_allclose(drawn.values[0][:, row, column].T, met, rtol=1e-6, atol=1e-6)


def test_equal_values_come_out_to_the_bit():
    vertices, triangles, _ = mesh("random", 0)
    value = np.full((2, 24, 1), 1 / 3)
    drawn = rasterize_perspective(vertices, triangles, value, HEIGHT, WIDTH)
    assert set(np.unique(drawn.values)) == {np.float32(0), np.float32(1 / 3)}


def ball():
    """A closed surface, seen from outside counter-clockwise, before the camera."""
    corners = (
        np.array([[x, y, z] for x in (-1.0, 1.0) for y in (-1.0, 1.0) for z in (-1.0, 1.0)])
        @ np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))[0]
    )
    quads = ((0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3))
    triangles = np.array([three for a, b, c, d in quads for three in ((a, b, c), (a, c, d))])
    a, b, c = (corners[triangles[:, i]] for i in range(3))
    inwards = (np.cross(b - a, c - a) * (a + b + c)).sum(axis=1) < 0
    triangles[inwards] = triangles[inwards][:, ::-1]
    space = corners + (0, 0, 6)
    picture = np.column_stack([space[:, :2] / space[:, 2:] * 40 + 12, space[:, 2]])
    return picture[None], triangles, space[None, :, 2:]


def test_culling_changes_nothing_outside_of_a_closed_surface_and_shows_its_inside_when_turned():
    vertices, triangles, depth = ball()
    outside = rasterize_perspective(vertices, triangles, depth, 24, 24)
    culled = rasterize_perspective(vertices, triangles, depth, 24, 24, "front")
    inside = rasterize_perspective(vertices, triangles[:, ::-1], depth, 24, 24, "front")
    covered = outside.covered & culled.covered & inside.covered
    assert covered.sum() > 50
    np.testing.assert_array_equal(culled.values[:, 0][covered], outside.values[:, 0][covered])
    assert (inside.values[:, 0][covered] > outside.values[:, 0][covered]).mean() > 0.95


def test_frames_are_drawn_in_groups_that_fit_in_memory(monkeypatch):
    vertices, triangles, values = mesh("random", 4)
    many = [torch.from_numpy(np.concatenate([x] * 3)) for x in (vertices, values)]
    whole = rasterize_torch.rasterize_perspective(
        many[0], torch.from_numpy(triangles), many[1], HEIGHT, WIDTH
    )
    monkeypatch.setattr(rasterize_torch, "_AT_ONCE", 1)
    apart = rasterize_torch.rasterize_perspective(
        many[0], torch.from_numpy(triangles), many[1], HEIGHT, WIDTH
    )
    assert torch.equal(whole.triangles, apart.triangles)
    assert torch.equal(whole.values, apart.values)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_the_gpu_draws_the_same_to_the_bit():
    for kind in KINDS:
        vertices, triangles, values = mesh(kind, 0)
        drawn = rasterize_perspective(vertices, triangles, values, HEIGHT, WIDTH, "front")
        by_gpu = on_device("cuda", vertices, triangles, values, "front")
        np.testing.assert_array_equal(by_gpu.triangles.cpu().numpy(), drawn.triangles)
        np.testing.assert_array_equal(by_gpu.values.cpu().numpy(), drawn.values)
