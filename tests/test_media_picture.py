"""Any picture file is read as meant; what is not a picture is refused in one sentence."""

import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from mien.errors import UserError
from mien.media import load_picture, picture_size, save_strip, to_bytes

RED, GREEN = (200, 40, 30), (20, 150, 60)


def flag() -> Image.Image:
    """Red left, green right; 40 wide, 24 high."""
    pixels = np.empty((24, 40, 3), np.uint8)
    pixels[:, :20], pixels[:, 20:] = RED, GREEN
    return Image.fromarray(pixels)


def expect_flag(picture: np.ndarray, tolerance: int = 6) -> None:
    assert picture.shape == (24, 40, 3) and picture.dtype == np.uint8
    assert np.abs(picture[12, 5].astype(int) - RED).max() <= tolerance
    assert np.abs(picture[12, 35].astype(int) - GREEN).max() <= tolerance


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tiff", "a.gif", "a.webp", "a.jpg", "a.ppm"])
def test_any_format_is_the_same_picture(tmp_path, name: str):
    flag().save(tmp_path / name)
    expect_flag(load_picture(tmp_path / name))


@pytest.mark.parametrize("name", ["it's two words.png", '"quoted".png', "zoë 画.png"])
def test_any_name_is_a_name(tmp_path, name: str):
    flag().save(tmp_path / name)
    expect_flag(load_picture(tmp_path / name))


def test_palette_and_cmyk_are_the_same_picture(tmp_path):
    flag().convert("P", palette=Image.Palette.ADAPTIVE).save(tmp_path / "a.png")
    expect_flag(load_picture(tmp_path / "a.png"))
    flag().convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    expect_flag(load_picture(tmp_path / "a.jpg"))
    flag().convert("CMYK").save(tmp_path / "a.tiff")
    expect_flag(load_picture(tmp_path / "a.tiff"))


@pytest.mark.parametrize("mode", ["L", "1", "LA"])
def test_grey_is_grey(tmp_path, mode: str):
    Image.new("L", (8, 8), 255).convert(mode).save(tmp_path / "a.png")
    assert (load_picture(tmp_path / "a.png") == 255).all()


@pytest.mark.parametrize("name", ["a.png", "a.tiff"])
def test_sixteen_bits_keep_their_brightness(tmp_path, name: str):
    grey = np.full((8, 8), 0x8000, np.uint16)
    Image.fromarray(grey).save(tmp_path / name)
    assert (load_picture(tmp_path / name) == 128).all()


def test_float_keeps_its_brightness(tmp_path):
    Image.fromarray(np.array([[0.0, 0.5, 1.0]], np.float32)).save(tmp_path / "a.tiff")
    assert load_picture(tmp_path / "a.tiff")[0, :, 0].tolist() == [0, 128, 255]


def test_what_is_transparent_shows_white(tmp_path):
    clear = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    clear.putpixel((0, 0), (0, 0, 0, 128))
    clear.save(tmp_path / "a.png")
    picture = load_picture(tmp_path / "a.png")
    assert picture[4, 4].tolist() == [255, 255, 255] and picture[0, 0].tolist() == [127, 127, 127]
    one = Image.new("P", (8, 8), 1)
    one.putpalette([0, 0, 0, 255, 0, 0])
    one.save(tmp_path / "p.png", transparency=1)
    assert load_picture(tmp_path / "p.png")[4, 4].tolist() == [255, 255, 255]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_way_to_hold_a_camera_ends_upright(tmp_path, orientation: int):
    undone = {  # what the camera did to the picture, for which the tag is the cure
        1: flag(),
        2: flag().transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        3: flag().transpose(Image.Transpose.ROTATE_180),
        4: flag().transpose(Image.Transpose.FLIP_TOP_BOTTOM),
        5: flag().transpose(Image.Transpose.TRANSPOSE),
        6: flag().transpose(Image.Transpose.ROTATE_90),
        7: flag().transpose(Image.Transpose.TRANSVERSE),
        8: flag().transpose(Image.Transpose.ROTATE_270),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    undone.save(tmp_path / "a.jpg", exif=exif, quality=95)
    expect_flag(load_picture(tmp_path / "a.jpg"))


@pytest.mark.parametrize("mode", ["RGB", "P", "L"])
def test_a_large_picture_becomes_moderate_and_keeps_its_shape(tmp_path, mode: str):
    flag().resize((4000, 2400)).convert(mode).save(tmp_path / "a.png")
    assert load_picture(tmp_path / "a.png").shape == (1229, 2048, 3)


def test_fifty_megapixels_take_bounded_memory(tmp_path):
    Image.new("RGB", (8660, 5774), 128).save(tmp_path / "a.jpg")
    code = (
        "import resource, sys; from pathlib import Path; from mien.media import load_picture;"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024;"
        "before = peak(); shape = load_picture(Path(sys.argv[1])).shape;"
        "print(shape == (1365, 2048, 3), peak() - before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "a.jpg")], capture_output=True, text=True
    )
    right, megabytes = done.stdout.split()
    assert right == "True" and int(megabytes) < 120  # decoded whole it would take 150


@pytest.mark.parametrize(
    ("width", "height", "complaint"),
    [(16_000, 10_000, "160 megapixels, more than 150"), (60_000, 50_000, "too many pixels")],
)
def test_too_many_pixels_are_refused_before_they_are_decoded(
    tmp_path, width: int, height: int, complaint: str
):
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    data = b"IDAT" + zlib.compress(b"")
    chunk += struct.pack(">I", len(data) - 4) + data + struct.pack(">I", zlib.crc32(data))
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk)
    with pytest.raises(UserError, match=complaint):
        load_picture(tmp_path / "a.png")


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.tiff", "a.gif"])
def test_half_a_picture_is_damaged(tmp_path, name: str):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=f"{name} is (damaged|not a readable picture)"):
        load_picture(tmp_path / name)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "is empty"),
        (b"not a picture\n" * 9, "not a readable picture"),
        (b"\x89PNG\r\n\x1a\n", "not a readable picture"),
    ],
)
def test_what_is_no_picture_is_said(tmp_path, content: bytes, complaint: str):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(UserError, match=complaint):
        load_picture(tmp_path / "a.png")


def test_no_file_and_a_folder_are_said(tmp_path):
    with pytest.raises(UserError, match=r"no file .*none\.png"):
        load_picture(tmp_path / "none.png")
    with pytest.raises(UserError, match="is a folder"):
        load_picture(tmp_path)
    with pytest.raises(UserError, match="cannot be opened"):
        load_picture(Path("x" * 500 + ".png"))


def test_a_strip_lays_frames_side_by_side(tmp_path):
    frames = torch.full((3, 3, 4, 6), -1.0)
    frames[1], frames[2, 0] = 0.0, 1.0
    save_strip(tmp_path / "a.png", frames)
    strip = load_picture(tmp_path / "a.png")
    assert strip.shape == (4, 18, 3)
    assert strip[0, [0, 6, 12]].tolist() == [[0, 0, 0], [128, 128, 128], [255, 0, 0]]
    save_strip(tmp_path / "b.png", frames[2])
    assert load_picture(tmp_path / "b.png").shape == (4, 6, 3)


@pytest.mark.real_world("wide pictures")
def test_float_that_overshoots_white_is_not_black(tmp_path):
    Image.fromarray(np.array([[0.0, 0.5, 1.02]], np.float32)).save(tmp_path / "a.tiff")
    assert load_picture(tmp_path / "a.tiff")[0, :, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
@pytest.mark.real_world("wide pictures")
def test_fewer_bits_in_a_file_of_sixteen_keep_their_white(bits: int, tmp_path):
    white = 2**bits - 1
    values = np.array([[0, white // 2, white]], np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    seen = load_picture(tmp_path / "a.png")[0, :, 0]
    assert seen[0] == 0 and abs(int(seen[1]) - 127) <= 1 and seen[2] == 255


def exchanged_profile() -> bytes:
    """The sRGB profile with the places of its red and blue exchanged."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    changed = bytearray(profile)
    places = {}
    for i in range(int.from_bytes(profile[128:132], "big")):
        at = 132 + 12 * i
        places[profile[at : at + 4]] = at + 4
    red, blue = places[b"rXYZ"], places[b"bXYZ"]
    changed[red : red + 8] = profile[blue : blue + 8]
    changed[blue : blue + 8] = profile[red : red + 8]
    return bytes(changed)


@pytest.mark.parametrize("suffix", ["png", "jpg"])
@pytest.mark.real_world("colour profiles")
def test_colours_follow_the_profile_that_the_file_carries(suffix: str, tmp_path):
    red = Image.new("RGB", (16, 16), (200, 30, 30))
    path = tmp_path / f"a.{suffix}"
    red.save(path, icc_profile=exchanged_profile())
    seen = load_picture(path)[8, 8]
    assert seen[2] > 150 and seen[0] < 80  # the profile says that its red is what others call blue
    red.save(path, icc_profile=b"damaged")
    assert abs(load_picture(path)[8, 8].astype(int) - (200, 30, 30)).max() < 8


@pytest.mark.real_world("colour profiles")
def test_a_profile_leaves_what_is_transparent(tmp_path):
    picture = Image.new("RGBA", (16, 16), (200, 30, 30, 255))
    picture.paste((0, 0, 0, 0), (0, 0, 8, 16))
    picture.save(tmp_path / "a.png", icc_profile=exchanged_profile())
    seen = load_picture(tmp_path / "a.png")
    assert seen[8, 2].tolist() == [255, 255, 255] and seen[8, 12, 2] > 150


@pytest.mark.real_world("HEIC")
def test_heic_is_read(tmp_path):
    pytest.importorskip("pillow_heif").register_heif_opener()
    Image.new("RGB", (64, 64), (200, 30, 30)).save(tmp_path / "a.heic")
    assert abs(load_picture(tmp_path / "a.heic")[30, 30].astype(int) - (200, 30, 30)).max() < 12


@pytest.mark.real_world("HEIC")
def test_without_its_package_heic_is_named_and_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "a.jpg").write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(UserError, match=r"a\.jpg is a HEIC picture: .*mien\[heic\]"):
        load_picture(tmp_path / "a.jpg")


def test_a_colour_that_is_transparent_stays_so_beside_a_profile(tmp_path):
    black = Image.new("RGB", (16, 16), (0, 0, 0))
    black.save(tmp_path / "a.png", transparency=(0, 0, 0), icc_profile=exchanged_profile())
    assert load_picture(tmp_path / "a.png")[8, 8].tolist() == [255, 255, 255]


@pytest.mark.parametrize("suffix", ["jpg", "tiff", "png"])
def test_the_size_of_a_file_is_that_of_the_upright_picture(suffix: str, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / f"a.{suffix}"
    Image.new("RGB", (100, 60)).save(path, exif=exif)
    assert load_picture(path).shape == (100, 60, 3)
    assert picture_size(path) == (60, 100)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_frames_become_bytes_by_rounding_once(dtype):
    frames = (torch.rand(3, 3, 4, 6) * 2.4 - 1.2).to(dtype).requires_grad_()
    before = frames.detach().clone()
    found = to_bytes(frames.detach())
    wanted = np.floor((before.float().clamp(-1, 1).numpy() + 1) * 127.5 + 0.5).transpose(0, 2, 3, 1)
    assert found.dtype == np.uint8 and found.flags.c_contiguous
    np.testing.assert_allclose(found, wanted, atol=1)  # halves go to even levels
    assert (found == wanted).mean() > 0.9 and torch.equal(frames.detach(), before)
