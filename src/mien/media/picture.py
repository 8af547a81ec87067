"""Pictures in and out: any file that Pillow reads becomes upright RGB of moderate size.

Axes: t frames, h w space.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from PIL import ExifTags, Image, ImageCms, ImageOps
from torch import Tensor

from mien.errors import UserError
from mien.paths import readable

Array = np.ndarray

PICTURE_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"}  # in folders
HEIF = (b"heic", b"heix", b"hevc", b"mif1", b"msf1", b"heim", b"heis")  # the brands of HEIC files

LONGEST_SIDE = 2048  # of a loaded picture: eight times what the largest net draws
MOST_PIXELS = 150_000_000  # of a file: more is refused before it is decoded
RESIZABLE = {"L", "LA", "RGB", "RGBA", "CMYK", "YCbCr", "RGBX"}  # modes that can be averaged
# White level of grey pictures with more than 8 bits: the smallest of these that is not below their
# maximum. Filters overshoot a little in float.
WHITES = (255.0, 1023.0, 4095.0, 16383.0, 65535.0)
OVERSHOOT = 1.1
LYING = (5, 6, 7, 8)  # EXIF orientations whose undoing exchanges width and height


def load_picture(path: Path) -> UInt8[Array, "h w 3"]:
    """Read a picture as sRGB (by its colour profile), upright (by its EXIF), transparency on white,
    sides at most 2048. HEIC needs the package pillow-heif.

    Raises:
        UserError: there is no such file, it is not a readable picture, or over 150 megapixels.
    """
    with _opened(path) as image:
        return _upright(image, path)


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """The picture of a file, whose pixels Pillow reads when they are asked for.

    Raises:
        UserError: as `load_picture`.
    """
    path = readable(path, "picture")
    if is_heif(path):
        _register_heif(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                yield image
    except Image.UnidentifiedImageError as error:
        raise UserError(
            f"{path} is not a readable picture: take a png, jpg, webp or tiff"
        ) from error
    except Image.DecompressionBombError as error:
        raise UserError(f"{path} has too many pixels: make it smaller") from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise UserError(f"the picture {path} is damaged ({error}): try another copy") from error


def picture_of(image: Image.Image) -> UInt8[Array, "h w 3"]:
    """A picture that Pillow holds, as `load_picture` gives a file.

    Raises:
        UserError: it is damaged, or has over 150 megapixels.
    """
    name = getattr(image, "filename", "") or "the picture"
    try:
        return _upright(image.copy(), Path(name))
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise UserError(f"{name} is damaged ({error}): try another copy") from error


def to_bytes(frames: Float[Tensor, "t 3 h w"]) -> UInt8[Array, "t h w 3"]:
    """Frames in [-1, 1] to uint8; rounded once, also from half precision."""
    levels = frames.float().clamp(-1, 1).add_(1).mul_(127.5).round_()
    levels = rearrange(levels, "t c h w -> t h w c")
    return levels.to(torch.uint8, memory_format=torch.contiguous_format).cpu().numpy()


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
    exif = image.getexif()
    rgb = _rgb(_in_srgb(image))
    rgb.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    rgb.getexif().update(exif)
    return np.asarray(ImageOps.exif_transpose(rgb)).copy()


def picture_size(path: Path) -> tuple[int, int]:
    """Width and height in pixels of the upright picture before `load_picture` shrinks it; nothing
    is decoded.

    Raises:
        UserError: there is no such file, or it is not a readable picture.
    """
    with _opened(path) as image:
        return upright_size(image)


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Width and height in pixels of a picture once it is turned as its EXIF asks."""
    width, height = image.size
    orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    # Of a TIFF Pillow says the upright size itself.
    turned = orientation in LYING and image.format != "TIFF"
    return (height, width) if turned else (width, height)


def is_heif(path: Path) -> bool:
    """Is this a HEIC picture, as many phones take?"""
    with path.open("rb") as file:
        head = file.read(12)
    return head[4:8] == b"ftyp" and head[8:12] in HEIF


def _register_heif(path: Path) -> None:
    try:
        from pillow_heif import register_heif_opener  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UserError(
            f'{path} is a HEIC picture: install its reader with pip install "mien[heic]", '
            "or save it as jpg or png"
        ) from error
    register_heif_opener()


def _in_srgb(image: Image.Image) -> Image.Image:
    """Convert to sRGB by the file's ICC profile; a damaged profile is ignored."""
    profile = image.info.get("icc_profile")
    if image.mode in ("RGB", "L") and image.has_transparency_data:  # one colour is transparent
        image = image.convert("RGBA" if image.mode == "RGB" else "LA")
    if not profile or image.mode not in ("RGB", "RGBA", "L", "LA", "CMYK"):
        return image
    alpha = image.getchannel("A") if image.mode in ("RGBA", "LA") else None
    colors = image.convert(image.mode[:-1]) if alpha is not None else image
    try:
        own = ImageCms.ImageCmsProfile(BytesIO(profile))
        srgb = ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(colors, own, srgb, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):
        return image
    assert converted is not None
    if alpha is not None:
        converted.putalpha(alpha)
    return converted


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
    """Grey of 16 or 32 bits or float; the white level is chosen by its maximum."""
    values = np.asarray(image).astype(np.float32)
    if not np.isfinite(values).all():
        raise ValueError("it has values that are not finite")
    largest = float(values.max())
    whites, room = ((1.0, *WHITES), OVERSHOOT) if image.mode == "F" else (WHITES, 1.0)
    white = next((w for w in whites if largest <= w * room), largest)
    grey = (values.clip(0, white) * (255 / white)).round().astype(np.uint8)
    return Image.fromarray(grey).convert("RGB")
