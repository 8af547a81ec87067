"""The rasteriser against the definition: every pixel asks every triangle."""

import numpy as np
import pytest

from mien.ops.rasterize import rasterize


def by_definition(vertices, triangles, values, size):
    depth = np.full((size, size), np.inf)
    picture = np.zeros((size, size, values.shape[1]))
    numbers = np.full((size, size), -1)
    for row in range(size):
        for column in range(size):
            for k, corners in enumerate(triangles):
                matrix = np.concatenate([vertices[corners, :2].T, np.ones((1, 3))])
                shares = np.linalg.solve(matrix, [column + 0.5, row + 0.5, 1])
                z = shares @ vertices[corners, 2]
                if (shares >= 0).all() and z < depth[row, column]:
                    depth[row, column], numbers[row, column] = z, k
                    picture[row, column] = shares @ values[corners]
    return picture, numbers


@pytest.mark.parametrize("seed", range(3))
def test_random_meshes_are_drawn_as_the_definition_says(seed: int):
    random = np.random.default_rng(seed)
    vertices = random.uniform(-4, 20, (12, 3))  # some leave the picture
    triangles = np.array([random.permutation(12)[:3] for _ in range(9)])
    values = random.normal(size=(12, 2))
    picture, numbers = by_definition(vertices, triangles, values, 16)
    drawn = rasterize(vertices, triangles, values, 16)
    np.testing.assert_array_equal(drawn.triangles, numbers)
    np.testing.assert_allclose(drawn.values, picture, atol=1e-5)
    assert (numbers >= 0).any() and (numbers < 0).any()


def test_equal_values_come_out_to_the_bit():
    random = np.random.default_rng(0)
    value = np.float32(1 / 3)
    drawn = rasterize(
        random.uniform(0, 16, (30, 3)),
        np.array([random.permutation(30)[:3] for _ in range(20)]),
        np.full((30, 1), value, np.float64),
        16,
    )
    assert set(np.unique(drawn.values)) == {np.float32(0), value}


def test_a_triangle_without_area_covers_nothing():
    vertices = np.array([[1.0, 1, 0], [8, 8, 0], [15, 15, 0]])
    assert (rasterize(vertices, np.array([[0, 1, 2]]), vertices, 16).triangles == -1).all()
