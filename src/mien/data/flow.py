"""How the pixels of two real frames moved: optical flow, a teacher for the displacement field.

Lips move by a few pixels, too few for the picture's own gradients to find early; a flow that nobody
labelled finds them at once. Axes: h w space.
"""

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from mien.ops.warp import pool_displacement, warp_map

SIDE = 256  # frames are measured at this size: at 128 half of the lips' motion is lost
FARTHEST = 0.4  # displacements beyond are errors (2 spans the picture)
PATCH = 9  # pixels; flow is judged by the mean error of such patches
ERROR_LEFT, ERROR_FREE = 0.7, 0.02  # believed below this share of the error without flow, plus this


def measure_flow(
    source: Float[Tensor, "3 h w"], driving: Float[Tensor, "3 h w"]
) -> tuple[Float[Tensor, "h w 2"], Float[Tensor, "h w 1"]]:
    """Where each pixel of `driving` lies in `source`, less its own place (2 spans the picture), and
    1 where that explains the picture, 0 where it does not.

    DIS flow (Kroeger et al. 2016), on one thread: OpenCV is told so for the whole process. Same
    pictures, same flow on the same machine. Pictures in [-1, 1].
    """
    pair = torch.stack((source, driving))
    if pair.shape[2:] != (SIDE, SIDE):
        pair = F.interpolate(pair, (SIDE, SIDE), mode="bicubic", antialias=True)
    cv2.setNumThreads(1)  # each thread takes a stripe: more of them, another flow
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
