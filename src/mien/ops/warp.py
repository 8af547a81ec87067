"""Sample features at displaced positions (the paper's warping calculator w).

Only 2-D sampling is used, a depth layer at a time: 5-D `grid_sample` does not run on Apple GPUs,
ONNX Runtime and TensorRT. One convention everywhere: `align_corners=False`, x before y, 2 spans the
picture.
Axes: b batch, c channels, z depth layers, h w space.
"""

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor

from mien.ops.precision import full_precision
from mien.ops.sampling import sample_maps


def identity_grid(height: int, width: int, like: Tensor) -> Float[Tensor, "h w 2"]:
    """Normalised coordinates of the pixel centres, as in `grid_sample` with align_corners=False."""
    ys = (torch.arange(height, device=like.device, dtype=like.dtype) * 2 + 1) / height - 1
    xs = (torch.arange(width, device=like.device, dtype=like.dtype) * 2 + 1) / width - 1
    return torch.stack(torch.meshgrid(xs, ys, indexing="xy"), dim=-1)


@full_precision
def warp_map(
    features: Float[Tensor, "n c h w"], displacement: Float[Tensor, "b h w 2"]
) -> Float[Tensor, "b c h w"]:
    """Sample `features` at every position plus its displacement, with border padding; of several
    displacements for n maps, number i moves map i % n.
    """
    grid = identity_grid(features.shape[2], features.shape[3], like=displacement)
    return sample_map(features, grid + displacement)


@full_precision
def sample_map(
    features: Float[Tensor, "n c h1 w1"], places: Float[Tensor, "b h2 w2 2"]
) -> Float[Tensor, "b c h2 w2"]:
    """Sample `features` at any positions (normalised coordinates), with border padding; of several
    grids for n maps, number i reads map i % n.
    """
    return sample_maps(unrepeated(features), places)


@full_precision
def pool_displacement(
    displacement: Float[Tensor, "b h1 w1 2"], confidence: Float[Tensor, "b h1 w1 1"], size: int
) -> tuple[Float[Tensor, "b h2 w2 2"], Float[Tensor, "b h2 w2 1"]]:
    """Confidence-weighted mean of the displacement on a coarser grid, and the mean confidence."""
    return _confident_mean(pool_plane(_weighed(displacement, confidence), size))


@full_precision
def sample_displacement(
    displacement: Float[Tensor, "b h1 w1 2"],
    confidence: Float[Tensor, "b h1 w1 1"],
    places: Float[Tensor, "b h2 w2 2"],
) -> tuple[Float[Tensor, "b h2 w2 2"], Float[Tensor, "b h2 w2 1"]]:
    """Confidence-weighted mean of the displacement at any positions, and the mean confidence."""
    planes = _weighed(displacement, confidence).permute(0, 3, 1, 2)
    return _confident_mean(sample_map(planes, places).permute(0, 2, 3, 1))


def _weighed(
    displacement: Float[Tensor, "b h w 2"], confidence: Float[Tensor, "b h w 1"]
) -> Float[Tensor, "b h w 3"]:
    return torch.cat((displacement * confidence, confidence), dim=-1)


def _confident_mean(
    weighed: Float[Tensor, "b h w 3"],
) -> tuple[Float[Tensor, "b h w 2"], Float[Tensor, "b h w 1"]]:
    moved, confidence = weighed.split((2, 1), dim=-1)
    return moved / confidence.clamp_min(1e-6), confidence


def repeat_frames(x: Float[Tensor, "b ..."], frames: int) -> Float[Tensor, "bt ..."]:
    """Repeat each source's values for its frames, which are consecutive; those of a single source
    are not copied.
    """
    return repeat(x, "b ... -> (b t) ...", t=frames)


def unrepeated(x: Float[Tensor, "b ..."]) -> Float[Tensor, "n ..."]:
    """The single source's values behind `repeat_frames`; others as they are."""
    return x[:1] if x.stride(0) == 0 else x


def pool_plane(plane: Float[Tensor, "b h1 w1 c"], size: int) -> Float[Tensor, "b h2 w2 c"]:
    """The mean over the cells of another grid, channels last. For whole cells two sums over memory
    as it lies, which a CPU does several times as fast as pooling, whose channels come first.
    """
    height, width = plane.shape[1:3]
    if (height, width) == (size, size):
        return plane
    if height % size or width % size:
        return F.adaptive_avg_pool2d(plane.permute(0, 3, 1, 2), size).permute(0, 2, 3, 1)
    high, wide, lines = height // size, width // size, plane.flatten(2)
    rows = lines.unflatten(1, (size, high)).sum(dim=2)
    return rows.unflatten(2, (size, wide, plane.shape[3])).sum(dim=3) / (high * wide)


def warp_volume(
    volume: Float[Tensor, "b c z h w"], displacement: Float[Tensor, "b z h w 2"]
) -> Float[Tensor, "b c z h w"]:
    """Warp each depth layer by its own displacement."""
    layers = rearrange(unrepeated(volume), "n c z h w -> (n z) c h w")
    moved = warp_map(layers, rearrange(displacement, "b z h w xy -> (b z) h w xy"))
    return rearrange(moved, "(b z) c h w -> b c z h w", b=volume.shape[0])


@full_precision
def resize_displacement(
    displacement: Float[Tensor, "b h1 w1 2"], height: int, width: int
) -> Float[Tensor, "b h2 w2 2"]:
    """The same displacement on another grid; values stay, since they are in normalised units."""
    if displacement.shape[1:3] == (height, width):
        return displacement
    planes = rearrange(displacement, "b h w xy -> b xy h w").contiguous()
    planes = F.interpolate(planes, size=(height, width), mode="bilinear", align_corners=False)
    return rearrange(planes, "b xy h w -> b h w xy").contiguous()
