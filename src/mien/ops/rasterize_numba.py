"""The loops of `mien.ops.rasterize`, compiled by numba for the CPU."""

import numpy as np

from mien.ops.numba_compiler import compiled

_FLAT = 1e-9  # twice the area in square pixels: a triangle below it is a line


@compiled
def _narrowed(first, last, slope, start, ax):
    """The columns between `first` and `last` where slope * (x - ax) + start is not negative, and
    one more on either side, since it is rounded: who calls tests each again.
    """
    if slope == 0:
        return first, last
    x = ax - start / slope - 0.5
    if slope > 0:
        return max(first, int(max(x, first)) - 1), last
    return first, min(last, int(min(x, last)) + 1)


@compiled
def draw(vertices, triangles, values, depth, picture, numbers):
    """Fill `depth`, `picture` and `numbers` in place (see `mien.ops.rasterize`)."""
    height, width = depth.shape
    count = values.shape[1]
    start, to_b, to_c = np.empty(count), np.empty(count), np.empty(count)
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
        # v and w, the weights of the corners b and c, grow evenly along a row.
        v_along, w_along = (cy - ay) / area, (ay - by) / area
        depth_b, depth_c = bz - az, cz - az
        for i in range(count):  # relative to one vertex, so that equal values stay bit-identical
            start[i] = values[a, i]
            to_b[i], to_c[i] = values[b, i] - start[i], values[c, i] - start[i]
        for row in range(top, bottom + 1):
            down = row + 0.5 - ay
            v_start, w_start = down * (ax - cx) / area, down * (bx - ax) / area
            first, last = _narrowed(left, right, v_along, v_start, ax)
            first, last = _narrowed(first, last, w_along, w_start, ax)
            first, last = _narrowed(first, last, -v_along - w_along, 1 - v_start - w_start, ax)
            depths, nearest, pixels = depth[row], numbers[row], picture[row]
            for column in range(first, last + 1):
                aside = column + 0.5 - ax
                v, w = v_along * aside + v_start, w_along * aside + w_start
                if v < 0 or w < 0 or v + w > 1:
                    continue
                z = az + v * depth_b + w * depth_c
                if z < depths[column]:
                    depths[column] = z
                    nearest[column] = k
                    for i in range(count):
                        pixels[column, i] = start[i] + v * to_b[i] + w * to_c[i]


@compiled
def _edge(vertices, i, j):
    """The line from corner i to corner j: start x y, direction x y, and a sign.

    It is always taken from the lower index, so that the two triangles at an edge get exactly
    opposite distances and no pixel falls between them.
    """
    low, high, sign = (i, j, 1.0) if i < j else (j, i, -1.0)
    x, y = vertices[low, 0], vertices[low, 1]
    return x, y, vertices[high, 0] - x, vertices[high, 1] - y, sign


@compiled
def _beside(edge, x, y):
    """Twice the area, with its sign, between an edge and the point x y."""
    start_x, start_y, along_x, along_y, sign = edge
    return sign * (along_x * (y - start_y) - along_y * (x - start_x))


@compiled
def _first_pixel(low, size):
    """The first pixel whose centre is not before `low`; `size` at most."""
    return int(min(max(np.ceil(low - 0.5), 0.0), float(size)))


@compiled
def _last_pixel(high, size):
    """The last pixel whose centre is not after `high`; -1 at least."""
    return int(min(max(np.floor(high - 0.5), -1.0), size - 1.0))


@compiled
def draw_perspective(vertices, triangles, values, front, nearness, picture, numbers):
    """Fill `picture` (c h w) and `numbers` (h w, -1 before) of one frame in place; `nearness` is
    room for 1/z. The operations and their order are those of `mien.ops.rasterize_torch`.
    """
    height, width = numbers.shape
    nearness[:] = 0.0
    for k in range(triangles.shape[0]):
        a, b, c = triangles[k]
        ax, ay, az = vertices[a]
        bx, by, bz = vertices[b]
        cx, cy, cz = vertices[c]
        edge = _edge(vertices, a, b)
        area = _beside(edge, cx, cy)
        if not (_FLAT <= abs(area) < np.inf) or (front and area > 0):
            continue
        if not (0 < az < np.inf and 0 < bz < np.inf and 0 < cz < np.inf):
            continue
        left, right = _first_pixel(min(ax, bx, cx), width), _last_pixel(max(ax, bx, cx), width)
        top, bottom = _first_pixel(min(ay, by, cy), height), _last_pixel(max(ay, by, cy), height)
        if left > right or top > bottom:
            continue
        from_a, from_b = _edge(vertices, b, c), _edge(vertices, c, a)
        sign = 1.0 if area > 0 else -1.0
        near_a, near_b, near_c, size = 1 / az, 1 / bz, 1 / cz, abs(area)
        for row in range(top, bottom + 1):
            for column in range(left, right + 1):
                x, y = column + 0.5, row + 0.5
                u = sign * _beside(from_a, x, y)
                v = sign * _beside(from_b, x, y)
                w = sign * _beside(edge, x, y)
                if u >= 0 and v >= 0 and w >= 0:
                    near = (u * near_a + v * near_b + w * near_c) / size
                    if near > nearness[row, column]:
                        nearness[row, column] = near
                        numbers[row, column] = k
    for row in range(height):
        for column in range(width):
            if numbers[row, column] >= 0:
                _shade(vertices, triangles[numbers[row, column]], values, row, column, picture)


@compiled
def _shade(vertices, corners, values, row, column, picture):
    """Interpolate the values of one pixel's triangle."""
    a, b, c = corners
    x, y = column + 0.5, row + 0.5
    # The sign of the area cancels in the quotients.
    u = _beside(_edge(vertices, b, c), x, y) * (1 / vertices[a, 2])
    v = _beside(_edge(vertices, c, a), x, y) * (1 / vertices[b, 2])
    w = _beside(_edge(vertices, a, b), x, y) * (1 / vertices[c, 2])
    whole = u + v + w
    to_b, to_c = v / whole, w / whole
    for i in range(values.shape[1]):
        # Relative to one vertex, so that equal values stay bit-identical.
        first = values[a, i]
        picture[i, row, column] = (
            first + to_b * (values[b, i] - first) + to_c * (values[c, i] - first)
        )
