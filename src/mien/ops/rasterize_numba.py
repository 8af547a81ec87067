"""The loop of `rasterize`, compiled by numba for the CPU."""

import numpy as np

from mien.ops.numba_compiler import compiled

_FLAT = 1e-9  # twice the area in square pixels: a triangle below it is a line


@compiled
def draw(vertices, triangles, values, depth, picture, numbers):
    """Fill `depth`, `picture` and `numbers` in place (see `mien.ops.rasterize`)."""
    height, width = depth.shape
    for k in range(triangles.shape[0]):
        a, b, c = triangles[k]
        ax, ay, az = vertices[a]
        bx, by, bz = vertices[b]
        cx, cy, cz = vertices[c]
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if abs(area) < _FLAT:
            continue
        left = max(0, int(np.ceil(min(ax, bx, cx) - 0.5)))
        right = min(width - 1, int(np.floor(max(ax, bx, cx) - 0.5)))
        top = max(0, int(np.ceil(min(ay, by, cy) - 0.5)))
        bottom = min(height - 1, int(np.floor(max(ay, by, cy) - 0.5)))
        for row in range(top, bottom + 1):
            y = row + 0.5
            for column in range(left, right + 1):
                x = column + 0.5
                v = ((x - ax) * (cy - ay) - (y - ay) * (cx - ax)) / area
                w = ((bx - ax) * (y - ay) - (by - ay) * (x - ax)) / area
                if v < 0 or w < 0 or v + w > 1:
                    continue
                z = az + v * (bz - az) + w * (cz - az)
                if z < depth[row, column]:
                    depth[row, column] = z
                    numbers[row, column] = k
                    for i in range(values.shape[1]):
                        # Relative to one vertex, so that equal values stay bit-identical.
                        first = values[a, i]
                        picture[row, column, i] = (
                            first + v * (values[b, i] - first) + w * (values[c, i] - first)
                        )
