"""Footage that the tests make: the NASA portrait of scikit-image moves about and hums."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import cache
from pathlib import Path

import av
import numpy as np
import skimage.data

from mien.face import Face
from mien.face.measures import LEFT_EYE, LOWER_LIP, RIGHT_EYE, UPPER_LIP
from tests.media_clips import RATE, TICKS, lay_on_its_side, regular

Array = np.ndarray
Place = tuple[float, float, float]  # left, top and side of the face's square in the picture
LAMP = np.s_[80:102, 100:122]  # rows and columns
LAMP_FINDER = f"face_finder={__name__}.LampFinder"  # for --set, beside the limits that it misses
LIMITS_OFF = [
    f"limits.{name}=null"
    for name in ("min_face_size", "min_sharpness", "min_motion", "min_pauses", "min_voiced")
]


class LampFinder:
    """One face in the middle, whose mouth is open as far as the lamp is bright."""

    def faces(self, picture):
        """The face."""
        height, width = picture.shape[:2]
        box = width * 0.4, height * 0.3, width * 0.6, height * 0.6
        return [Face(box, 1.0, np.zeros((6, 2)))]

    small_faces = faces

    def landmarks(self, picture, face):
        """Points all over the box, but for the eyes and the lips."""
        x0, y0, x1, y1 = face.box
        points = np.random.default_rng(0).uniform(size=(468, 3)).astype(np.float32)
        points[list(RIGHT_EYE), :2], points[list(LEFT_EYE), :2] = (0.2, 0.3), (0.8, 0.3)
        points[[10, 152], :2] = (0, 0), (1, 1)  # corners, so that the box stays
        points[UPPER_LIP, :2] = 0.5, 0.6
        points[LOWER_LIP, :2] = 0.5, 0.6 + 0.3 * picture[LAMP].mean() / 255
        return points * (x1 - x0, y1 - y0, 0) + np.float32((x0, y0, 0)), 1.0


def still(x: float = 60, y: float = 10, side: float = 200) -> Callable[[float], Place]:
    """A face that nearly stands still."""
    return lambda time: (x + 2 * np.sin(3 * time), y + np.sin(2 * time), side)


@cache
def portrait() -> Array:
    """The portrait; read once, since reading it takes longer than drawing a picture of it."""
    return skimage.data.astronaut()[0:256, 96:352]


def picture_of(places: Sequence[Place], size: tuple[int, int], shade: int = 90) -> Array:
    """Faces at their places before a plain wall."""
    import cv2

    canvas = np.full((size[1], size[0], 3), shade, np.uint8)
    face = portrait()
    for left, top, side in places:
        scale = side / 256
        move = np.array([[scale, 0, left], [0, scale, top]], np.float32)
        cv2.warpAffine(face, move, size, canvas, cv2.INTER_AREA, cv2.BORDER_TRANSPARENT)
    return canvas


def hum(seconds: float) -> Array:
    """Syllables, four a second, and pauses."""
    time = np.arange(int(seconds * RATE)) / RATE
    voice = sum(np.sin(2 * np.pi * 140 * k * time) / k for k in range(1, 8))
    syllables = np.clip(np.sin(2 * np.pi * 2 * time), 0, 1) * (time % 1.5 < 1.1)
    return (0.2 * voice * syllables).astype(np.float32)


def film(
    path: Path,
    seconds: float = 3.0,
    faces: Sequence[Callable[[float], Place]] = (still(),),
    size: tuple[int, int] = (320, 240),
    times: Sequence[Fraction] | None = None,
    sounds: Sequence[Array] | None = None,
    shade: Callable[[float], int] = lambda time: 90,
    lying: bool = False,
    lamp: Callable[[float], float] | None = None,
    pixels: str = "yuv420p",
) -> Path:
    """Write a video of those faces with those sound tracks (one hum, if none are given); `lying`:
    stored on its side with the wish to be turned upright; `lamp`: how brightly one at LAMP shines.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    times = regular(Fraction(25), seconds) if times is None else times
    sounds = [hum(seconds)] if sounds is None else sounds
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=30, options={"preset": "ultrafast"})
        video.width, video.height = size[::-1] if lying else size
        video.pix_fmt = pixels
        video.time_base = video.codec_context.time_base = Fraction(1, TICKS)
        streams = [container.add_stream("aac", rate=RATE, layout="mono") for _ in sounds]
        for time in times:
            here = [face(float(time)) for face in faces]
            picture = picture_of(here, size, shade(float(time)))
            if lamp is not None:
                picture[LAMP] = round(255 * lamp(float(time)))
            stored = np.ascontiguousarray(np.rot90(picture)) if lying else picture
            frame = av.VideoFrame.from_ndarray(stored, format="rgb24")
            frame.pts, frame.time_base = int(time * TICKS), Fraction(1, TICKS)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        for stream, sound in zip(streams, sounds, strict=True):
            for begin in range(0, len(sound), 1024):
                block = av.AudioFrame.from_ndarray(
                    sound[None, begin : begin + 1024], format="fltp", layout="mono"
                )
                block.sample_rate, block.pts = RATE, begin
                container.mux(stream.encode(block))
            container.mux(stream.encode(None))
    if lying:
        lay_on_its_side(path)
    return path
