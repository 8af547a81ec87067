"""Rasterisation: a mesh's vertex attributes, interpolated at every pixel of a picture.

Axes: n vertices, k triangles, c values per vertex, h w space. Orthographic: x and y are the
position in the picture, z is the depth of the z-buffer.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

Array = np.ndarray


@dataclass(frozen=True)
class Raster:
    """`values` interpolated over the nearest triangle of each pixel, and that triangle's index.

    Where there is no triangle the values are 0 and the index is -1.
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
    Back faces are drawn too. Values that are equal at all vertices come out unchanged.
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
