"""Pictures in and out: any file that Pillow reads becomes upright RGB of moderate size.

Axes: t frames, h w space.
"""

import warnings
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from mien.errors import UserError
from mien.media.files import readable

Array = np.ndarray

PICTURE_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"}  # in folders

LONGEST_SIDE = 2048  # of a loaded picture: eight times what the largest net draws
MOST_PIXELS = 150_000_000  # of a file: more is refused before it is decoded
RESIZABLE = {"L", "LA", "RGB", "RGBA", "CMYK", "YCbCr", "RGBX"}  # modes that can be averaged

ORIENTATION = 0x0112  # the EXIF tag, and what undoes each of its values
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def load_picture(path: Path) -> UInt8[Array, "h w 3"]:
    """The picture as RGB: upright by its EXIF, transparent parts on white, sides at most 2048.

    Raises:
        UserError: there is no such file, it is no picture, damaged, or has over 150 megapixels.
    """
    path = readable(path, "picture")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                return _upright(image, path)
    except Image.UnidentifiedImageError as error:
        raise UserError(f"{path} is no picture: take a png, jpg, webp or tiff") from error
    except Image.DecompressionBombError as error:
        raise UserError(f"{path} has too many pixels: make it smaller") from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise UserError(f"the picture {path} is damaged ({error}): try another copy") from error


def to_bytes(frames: Float[Tensor, "t 3 h w"]) -> UInt8[Array, "t h w 3"]:
    """Frames in [-1, 1] as pictures and videos take them."""
    pixels = ((frames.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return rearrange(pixels, "t c h w -> t h w c").cpu().numpy()


def save_strip(path: Path, frames: Float[Tensor, "*t 3 h w"]) -> None:
    """Frames in [-1, 1], side by side, as a png."""
    rows = to_bytes(frames.detach().reshape(-1, *frames.shape[-3:]))
    Image.fromarray(rearrange(rows, "t h w c -> h (t w) c")).save(path, format="PNG")


def _upright(image: Image.Image, path: Path) -> UInt8[Array, "h w 3"]:
    width, height = image.size
    if width * height > MOST_PIXELS:
        raise UserError(
            f"{path} has {width * height / 1e6:.0f} megapixels, more than "
            f"{MOST_PIXELS / 1e6:.0f}: make it smaller"
        )
    image.draft(None, (LONGEST_SIDE, LONGEST_SIDE))  # a jpeg is decoded no larger than needed
    if image.mode in RESIZABLE:
        image.thumbnail((LONGEST_SIDE, LONGEST_SIDE), reducing_gap=2.0)
    rgb = _rgb(image)
    rgb.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    return np.asarray(_turn(rgb, image.getexif().get(ORIENTATION, 1))).copy()


def _turn(image: Image.Image, orientation: int) -> Image.Image:
    """Undo how the camera was held (EXIF tag Orientation)."""
    method = TURNS.get(orientation)
    return image if method is None else image.transpose(method)


def _rgb(image: Image.Image) -> Image.Image:
    """Any mode to RGB."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _from_wide(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")


def _from_wide(image: Image.Image) -> Image.Image:
    """Grey of 16 or 32 bits or float; the range of its numbers says what white is."""
    values = np.asarray(image).astype(np.float32)
    if not np.isfinite(values).all():
        raise ValueError("holds numbers that are no brightness")
    largest = 65535.0 if image.mode.startswith("I;16") else float(values.max())
    white = next((w for w in (1.0, 255.0, 65535.0) if largest <= w), largest)
    grey = (values.clip(0, white) * (255 / white)).round().astype(np.uint8)
    return Image.fromarray(grey).convert("RGB")
