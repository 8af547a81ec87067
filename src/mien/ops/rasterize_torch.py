"""`mien.ops.rasterize.rasterize_perspective` for tensors, on any device, equal to the bit.

Every triangle is laid over the pixels of its bounding box, all of them at once; the z-buffer is a
maximum of 1/z by pixel. Both forms compute in float64 with the same operations in the same order.
Axes: t frames, n vertices, k triangles, c values per vertex, h w space, m pairs of a triangle and
a pixel.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float32, Float64, Int, Int32, Int64
from torch import Tensor

from mien.ops.rasterize import Faces

_FLAT = 1e-9  # as in mien.ops.rasterize_numba
_AT_ONCE = 4_000_000  # pairs of a triangle and a pixel, at about 200 bytes each


@dataclass(frozen=True)
class TensorRasters:
    """As `mien.ops.rasterize.Rasters`, on the device of the vertices."""

    values: Float32[Tensor, "t c h w"]
    triangles: Int32[Tensor, "t h w"]

    @property
    def covered(self) -> Bool[Tensor, "t h w"]:
        """Where a triangle is drawn."""
        return self.triangles >= 0


@dataclass(frozen=True)
class _Boxes:
    """The bounding boxes of triangles in pixels: where they start, and how large they are (0 by 0
    for triangles that are not drawn).
    """

    left: Int64[Tensor, "t k"]
    top: Int64[Tensor, "t k"]
    width: Int64[Tensor, "t k"]
    height: Int64[Tensor, "t k"]

    def part(self, start: int, end: int) -> "_Boxes":
        """Those of frames `start` to before `end`."""
        cut = slice(start, end)
        return _Boxes(self.left[cut], self.top[cut], self.width[cut], self.height[cut])


@torch.no_grad()
def rasterize_perspective(
    vertices: Float[Tensor, "t n 3"],
    triangles: Int[Tensor, "k 3"],
    values: Float[Tensor, "t n c"],
    height: int,
    width: int,
    faces: Faces = "both",
) -> TensorRasters:
    """Draw a mesh of t frames on height x width pixels by z-buffer; see the numpy form for what is
    drawn. Without gradients. Apple's mps has no float64: there it is drawn on the CPU.
    """
    home = vertices.device
    device = torch.device("cpu") if home.type == "mps" else home
    places, corners, kept = vertices.to(device).double(), triangles.to(device).long(), values
    boxes = _boxes(places, corners, height, width, faces)
    costs = (boxes.width * boxes.height).sum(dim=1).tolist()
    numbers = torch.cat(
        [
            _nearest(places[start:end], corners, boxes.part(start, end), height, width)
            for start, end in _groups(costs)
        ]
    )
    drawn = _shaded(places, corners, kept.to(device).double(), numbers)
    return TensorRasters(drawn.to(home), numbers.int().to(home))


def _groups(costs: list[int]) -> list[tuple[int, int]]:
    """Runs of frames that fit in memory together; a frame alone may exceed it."""
    groups, start, sum_ = [], 0, 0
    for i, cost in enumerate(costs):
        if i > start and sum_ + cost > _AT_ONCE:
            groups.append((start, i))
            start, sum_ = i, 0
        sum_ += cost
    return [*groups, (start, len(costs))]


def _boxes(
    vertices: Float64[Tensor, "t n 3"],
    triangles: Int64[Tensor, "k 3"],
    height: int,
    width: int,
    faces: Faces,
) -> _Boxes:
    x, y, z = vertices[:, triangles].unbind(dim=3)  # t k 3, by corner
    area = _areas(vertices, triangles)
    drawn = ((z > 0) & z.isfinite()).all(dim=2)
    drawn &= (area.abs() >= _FLAT) & area.isfinite()
    if faces == "front":
        drawn &= area <= 0

    def span(along: Tensor, size: int) -> tuple[Tensor, Tensor]:
        along = torch.where(drawn[..., None], along, 0.0)
        first = (along.amin(dim=2) - 0.5).ceil().clamp(0, size).long()
        last = (along.amax(dim=2) - 0.5).floor().clamp(-1, size - 1).long()
        return first, torch.where(drawn, last - first + 1, 0).clamp(min=0)

    left, across = span(x, width)
    top, down = span(y, height)
    return _Boxes(left, top, across, down)


def _areas(
    vertices: Float64[Tensor, "t n 3"], triangles: Int64[Tensor, "k 3"]
) -> Float64[Tensor, "t k"]:
    a, b, c = triangles.unbind(dim=1)
    frame = torch.arange(len(vertices), device=vertices.device)[:, None]
    x, y = vertices[:, c, 0], vertices[:, c, 1]
    return _edge(vertices, frame, a[None], b[None], x, y)


def _edge(
    vertices: Float64[Tensor, "t n 3"], frame: Tensor, i: Tensor, j: Tensor, x: Tensor, y: Tensor
) -> Tensor:
    """As in `mien.ops.rasterize_numba`: the same value with opposite signs from both sides."""
    low, high = torch.minimum(i, j), torch.maximum(i, j)
    ix, iy = vertices[frame, low, 0], vertices[frame, low, 1]
    jx, jy = vertices[frame, high, 0], vertices[frame, high, 1]
    value = (jx - ix) * (y - iy) - (jy - iy) * (x - ix)
    return torch.where(i > j, -value, value)


def _nearest(
    vertices: Float64[Tensor, "t n 3"],
    triangles: Int64[Tensor, "k 3"],
    boxes: _Boxes,
    height: int,
    width: int,
) -> Int64[Tensor, "t h w"]:
    """The index of the nearest triangle at every pixel; -1 where there is none."""
    t, k = boxes.left.shape
    sizes = (boxes.width * boxes.height).flatten()
    owner = torch.repeat_interleave(torch.arange(t * k, device=vertices.device), sizes)  # m
    place = torch.arange(len(owner), device=vertices.device)
    place = place - (sizes.cumsum(0) - sizes)[owner]
    wide = boxes.width.flatten()[owner]
    row = boxes.top.flatten()[owner] + place // wide
    column = boxes.left.flatten()[owner] + place % wide
    frame, number = owner // k, owner % k

    a, b, c = triangles[number].unbind(dim=1)
    x, y = column + 0.5, row + 0.5
    x, y = x.double(), y.double()
    area = _areas(vertices, triangles).flatten()[owner]
    sign = torch.where(area > 0, 1.0, -1.0)
    u = sign * _edge(vertices, frame, b, c, x, y)
    v = sign * _edge(vertices, frame, c, a, x, y)
    w = sign * _edge(vertices, frame, a, b, x, y)
    q = 1 / vertices[..., 2]
    near = (u * q[frame, a] + v * q[frame, b] + w * q[frame, c]) / area.abs()

    inside = (u >= 0) & (v >= 0) & (w >= 0) & (near > 0)
    near, number = near[inside], number[inside]
    pixel = ((frame * height + row) * width + column)[inside]
    best = torch.zeros(t * height * width, dtype=near.dtype, device=near.device)
    best.scatter_reduce_(0, pixel, near, "amax")
    wins = near == best[pixel]
    first = torch.full((t * height * width,), k, device=near.device)
    first.scatter_reduce_(0, pixel[wins], number[wins], "amin")
    return torch.where(first < k, first, -1).view(t, height, width)


def _shaded(
    vertices: Float64[Tensor, "t n 3"],
    triangles: Int64[Tensor, "k 3"],
    values: Float64[Tensor, "t n c"],
    numbers: Int64[Tensor, "t h w"],
) -> Float32[Tensor, "t c h w"]:
    """The values of each pixel's triangle, interpolated with weights of 1/z."""
    frame, row, column = (numbers >= 0).nonzero(as_tuple=True)
    a, b, c = triangles[numbers[frame, row, column]].unbind(dim=1)
    x, y = (column + 0.5).double(), (row + 0.5).double()
    q = 1 / vertices[..., 2]
    u = _edge(vertices, frame, b, c, x, y) * q[frame, a]
    v = _edge(vertices, frame, c, a, x, y) * q[frame, b]
    w = _edge(vertices, frame, a, b, x, y) * q[frame, c]
    whole = u + v + w
    to_b, to_c = (v / whole)[:, None], (w / whole)[:, None]
    first = values[frame, a]
    drawn = first + to_b * (values[frame, b] - first) + to_c * (values[frame, c] - first)
    t, h, width = numbers.shape
    picture = torch.zeros(t, h, width, values.shape[2], device=values.device)
    picture[frame, row, column] = drawn.float()
    return picture.permute(0, 3, 1, 2).contiguous()
