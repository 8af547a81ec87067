"""Triangles to maps: what a mesh's vertices carry, at every pixel of a picture.

Axes: n vertices, k triangles, c values of a vertex, h w space. Orthographic: a vertex lies where
its x and y say, and its z decides what hides what.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

Array = np.ndarray


@dataclass(frozen=True)
class Raster:
    """`values` interpolated over the nearest triangle of each pixel, and that triangle's number.

    Where there is no triangle the values are 0 and the number is -1.
    """

    values: Float[Array, "h w c"]
    triangles: Int[Array, "h w"]


def rasterize(
    vertices: Float[Array, "n 3"],
    triangles: Int[Array, "k 3"],
    values: Float[Array, "n c"],
    size: int,
) -> Raster:
    """Draw the mesh on size x size pixels by z-buffer; a smaller z is nearer.

    `vertices` are x y z in pixels of that picture, a pixel's centre standing at half numbers.
    Triangles are seen from both sides. Values that are equal at all vertices come out unchanged.
    """
    from mien.ops.rasterize_numba import draw  # imported late: numba takes a second to load

    picture = np.zeros((size, size, values.shape[1]), np.float32)
    numbers = np.full((size, size), -1, np.int32)
    draw(
        np.ascontiguousarray(vertices, np.float64),
        np.ascontiguousarray(triangles, np.int32),
        np.ascontiguousarray(values, np.float64),
        np.full((size, size), np.inf),
        picture,
        numbers,
    )
    return Raster(picture, numbers)
