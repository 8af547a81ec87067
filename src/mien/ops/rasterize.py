"""Rasterisation: a mesh's vertex attributes, interpolated at every pixel of a picture.

`rasterize` is orthographic: z only sorts. `rasterize_perspective` takes vertices that a pinhole
camera has projected, and interpolates as the surface in space does; `rasterize_torch` is the same
for tensors on any device, and equals it to the bit. README.md says why no library is used.
Axes: t frames, n vertices, k triangles, c values per vertex, h w space.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, Int32

Array = np.ndarray
# Which sides of triangles are drawn: both, or only the one from which the corners are seen in
# counter-clockwise order (back-face culling; the winding of OBJ and OpenGL).
Faces = Literal["both", "front"]


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
    into: Float32[Array, "size size c"] | None = None,
) -> Raster:
    """Draw the mesh on size x size pixels by z-buffer; a smaller z is nearer.

    `vertices` are x y z in pixels of that picture, a pixel's centre standing at half numbers.
    Back faces are drawn too. Values that are equal at all vertices come out unchanged. They are
    drawn on `into`, if it is given, which is contiguous and holds zeros; `Raster.values` is then
    that array.
    """
    from mien.ops.rasterize_numba import draw  # imported late: numba takes a second to load

    picture = np.zeros((size, size, values.shape[1]), np.float32) if into is None else into
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


def visible_triangles(
    views: Iterable[Float[Array, "n 3"]], triangles: Int[Array, "k 3"], size: int
) -> Bool[Array, " k"]:
    """Which triangles `rasterize` draws in at least one of several views of their vertices."""
    visible = np.zeros(len(triangles), bool)
    for view in views:
        drawn = rasterize(view, triangles, np.zeros((len(view), 0)), size).triangles
        visible[drawn[drawn >= 0]] = True
    return visible


@dataclass(frozen=True)
class Rasters:
    """`values` interpolated over the nearest triangle of each pixel of each frame, and that
    triangle's index; where there is no triangle the values are 0 and the index is -1.
    """

    values: Float32[Array, "t c h w"]
    triangles: Int32[Array, "t h w"]

    @property
    def covered(self) -> Bool[Array, "t h w"]:
        """Where a triangle is drawn."""
        return self.triangles >= 0


def rasterize_perspective(
    vertices: Float[Array, "t n 3"],
    triangles: Int[Array, "k 3"],
    values: Float[Array, "t n c"],
    height: int,
    width: int,
    faces: Faces = "both",
) -> Rasters:
    """Draw a mesh of t frames on height x width pixels by z-buffer.

    `vertices` are x and y in pixels of that picture (a pixel's centre stands at half numbers, y
    down), where the camera sees them, and z, their depth along its axis. Values are interpolated
    with weights of 1/z; those that are equal at all corners come out unchanged. A pixel belongs to
    a triangle if its centre is inside or on an edge; of triangles at one depth the first wins, and
    triangles that share an edge leave no gap. Not drawn: triangles without area, and those with a
    corner that is not in front of the camera (z <= 0) or not finite.
    """
    from mien.ops.rasterize_numba import draw_perspective  # imported late, as above

    t, c = len(vertices), values.shape[2]
    pictures = np.zeros((t, c, height, width), np.float32)
    numbers = np.full((t, height, width), -1, np.int32)
    corners = np.ascontiguousarray(triangles, np.int32)
    places = np.ascontiguousarray(vertices, np.float64)
    kept = np.ascontiguousarray(values, np.float64)
    nearness = np.empty((height, width))
    for i in range(t):
        draw_perspective(
            places[i], corners, kept[i], faces == "front", nearness, pictures[i], numbers[i]
        )
    return Rasters(pictures, numbers)
