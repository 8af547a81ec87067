"""How large a picture is in its file, which load_picture may have made smaller."""

from pathlib import Path

from PIL import Image

from mien.errors import UserError
from mien.media.files import readable
from mien.media.picture import ORIENTATION

LYING = (5, 6, 7, 8)  # EXIF orientations whose undoing exchanges width and height


def picture_size(path: Path) -> tuple[int, int]:
    """Width and height in pixels of the file once it stands upright; nothing is decoded.

    Raises:
        UserError: there is no such file, or it is no picture.
    """
    try:
        with Image.open(readable(path, "picture")) as image:
            width, height = image.size
            turned = image.getexif().get(ORIENTATION, 1) in LYING
    except OSError as error:
        raise UserError(f"{path} is no picture: take a png, jpg, webp or tiff") from error
    return (height, width) if turned else (width, height)
