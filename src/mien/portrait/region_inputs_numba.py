"""What the region attention reads, in one compiled loop for the CPU: the source's features, warped
by every region's displacement, and its length.

Axes: b batch (frames), p sources, r regions, c channels, z depth layers, h w space, k all channels.
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mien.ops.numba_compiler import compiled, in_threads, threads_for
from mien.ops.sampling_numba import locate, place_row, row_buffers, sample_row
from mien.ops.warp import unrepeated


def region_inputs(
    still: Float[Tensor, "b c z h w"],
    displacement: Float[Tensor, "b r z h w 2"],
    scale: float,
    smallest: float,
) -> Float[Tensor, "b k h w"]:
    """Channels (r c z) of warped features, then (r z) of sqrt(|displacement|^2 + smallest) * scale;
    innermost in memory, as the convolution after it reads them.
    """
    b, r, z, h, w, _ = displacement.shape
    features = unrepeated(still).detach()
    p, c = features.shape[:2]
    lines = displacement.detach().contiguous().numpy().reshape(b, r, z, h, 2 * w)
    planes = features.contiguous().numpy().reshape(p, c, z, h * w)
    inputs = np.empty((b, h, w, r * (c + 1) * z), np.float32)
    factors = np.array((scale, smallest), np.float32)
    in_threads(_fill, threads_for(b), (planes, lines, factors, inputs))
    return torch.from_numpy(inputs).permute(0, 3, 1, 2)


@compiled
def _fill(planes, lines, factors, inputs, worker, workers):
    b, regions, layers, h, doubled = lines.shape
    p, channels, _, _ = planes.shape
    w = doubled // 2
    places, first, right, down = row_buffers(w)
    for k in range(b * worker // workers, b * (worker + 1) // workers):
        for row in range(h):
            into = inputs[k, row]
            for r in range(regions):
                for z in range(layers):
                    line = lines[k, r, z, row]
                    place_row(line, row, h, places)
                    locate(places, h, w, first, right, down)
                    length = (regions * channels + r) * layers + z
                    for i in range(w):
                        dx, dy = line[2 * i], line[2 * i + 1]
                        into[i, length] = np.sqrt(dx * dx + dy * dy + factors[1]) * factors[0]
                    for c in range(channels):
                        here = into[:, (r * channels + c) * layers + z]
                        sample_row(planes[k % p, c, z], w, h, first, right, down, here)
