"""The crop of a picture that the animator sees, the same in training and at inference.

Axes: h w space.
"""

import cv2
import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from mien.face.geometry import Box, Picture


def crop(picture: Picture, square: Box, size: int) -> Float[Tensor, "1 3 size size"]:
    """Crop a square of the picture to [-1, 1]; beyond the border the edge is replicated, with
    increasing blur. Clips and portraits are cropped alike, so inference matches training.
    """
    height, width = picture.shape[:2]
    left, top = round(square[0]), round(square[1])
    side = max(1, round(square[2] - square[0]))
    right, bottom = left + side, top + side
    inside = picture[max(0, top) : max(0, bottom), max(0, left) : max(0, right)]
    beyond = max(0, -top), max(0, bottom - height), max(0, -left), max(0, right - width)
    pixels = torch.from_numpy(cv2.copyMakeBorder(inside, *beyond, cv2.BORDER_REPLICATE))
    # Resized as bytes: a 50-megapixel face would take 600 MB as floats.
    scaled = F.interpolate(
        rearrange(pixels, "h w c -> 1 c h w"), (size, size), mode="bicubic", antialias=True
    )
    scaled = scaled.float() / 127.5 - 1
    return _blur_beyond(scaled, torch.tensor(beyond) * (size / side))


def _blur_beyond(
    frame: Float[Tensor, "1 3 size size"], beyond: Float[Tensor, " 4"]
) -> Float[Tensor, "1 3 size size"]:
    """Blur margins of so many pixels at the top, bottom, left and right, increasingly outwards: a
    replicated edge has conspicuous streaks.
    """
    size = frame.shape[-1]
    place = torch.arange(size) + 0.5
    top, bottom, left, right = beyond
    down = torch.maximum(top - place, place - size + bottom)[:, None]
    across = torch.maximum(left - place, place - size + right)[None]
    far = torch.maximum(down, across).clamp_min(0)
    if not far.any():
        return frame
    picture = frame[0].permute(1, 2, 0).numpy()
    deviation = size / 16
    blurred = cv2.GaussianBlur(picture, (0, 0), deviation, borderType=cv2.BORDER_REPLICATE)
    share = 1 - torch.exp(-far / deviation)
    return torch.lerp(frame, torch.from_numpy(blurred).permute(2, 0, 1)[None], share)
