"""Optical flow between two real frames, a supervision for the displacement field.

Lips move by a few pixels, too few for the reconstruction loss to find early in training; optical
flow needs no labels and provides the correspondence at once. Axes: h w space.
"""

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from mien.ops.warp import pool_displacement, warp_map

SIDE = 256  # flow is computed at this size: at 128 half of the lips' motion is lost
FARTHEST = 0.4  # larger displacements are taken as errors (2 spans the picture)
PATCH = 9  # pixels; side of the patches over which the warping error is averaged
ERROR_LEFT, ERROR_FREE = 0.7, 0.02  # reliable if error < LEFT * error without flow + FREE


def measure_flow(
    source: Float[Tensor, "3 h w"], driving: Float[Tensor, "3 h w"]
) -> tuple[Float[Tensor, "h w 2"], Float[Tensor, "h w 1"]]:
    """The displacement of each pixel of `driving` to its place in `source` (2 spans the picture),
    and a confidence: 1 where warping by it explains the picture, 0 where it does not.

    DIS flow (Kroeger et al. 2016) on one thread, which is set for OpenCV in the whole process, so
    that it is deterministic on one machine. Pictures in [-1, 1].
    """
    pair = torch.stack((source, driving))
    if pair.shape[2:] != (SIDE, SIDE):
        pair = F.interpolate(pair, (SIDE, SIDE), mode="bicubic", antialias=True)
    cv2.setNumThreads(1)  # the flow depends on the number of threads
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    pixels = dis.calc(_grey(pair[1]), _grey(pair[0]), None)  # pyright: ignore
    displacement = torch.from_numpy(np.asarray(pixels, np.float32))[None] * (2 / SIDE)

    with_flow = warp_map(pair[:1], displacement)
    error, error_without = (_patch_error(drawn, pair[1:]) for drawn in (with_flow, pair[:1]))
    reliable = error < ERROR_LEFT * error_without + ERROR_FREE
    near = displacement.abs().amax(dim=-1)[:, None] < FARTHEST
    confidence = (reliable & near).float().permute(0, 2, 3, 1)
    fitted, confidence = pool_displacement(displacement, confidence, source.shape[-1])
    return fitted[0], confidence[0]


def _grey(picture: Float[Tensor, "3 h w"]) -> UInt8[np.ndarray, "h w"]:
    return ((picture.mean(dim=0) + 1) * 127.5).clamp(0, 255).byte().numpy()


def _patch_error(
    drawn: Float[Tensor, "1 3 h w"], wanted: Float[Tensor, "1 3 h w"]
) -> Float[Tensor, "1 1 h w"]:
    error = (drawn - wanted).abs().mean(dim=1)[0].numpy()
    blurred = cv2.blur(error, (PATCH, PATCH), borderType=cv2.BORDER_CONSTANT)
    return torch.from_numpy(blurred)[None, None]
