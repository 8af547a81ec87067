"""Videos that the tests draw: a flash and a click every second, at any rate."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

RATE = 48_000
MARK = 0.1  # seconds that the flash and the click last
TICKS = 90_000  # of the video's clock a second


def regular(rate: Fraction, seconds: float) -> list[Fraction]:
    """When the pictures of a steady camera are shown."""
    return [i / rate for i in range(int(seconds * rate))]


def irregular(seconds: float, seed: int = 0) -> list[Fraction]:
    """When the pictures of a phone are shown: 15 to 40 a second, as the light allows."""
    generator = np.random.default_rng(seed)
    times, now = [], Fraction(0)
    while now < seconds:
        times.append(now)
        now += Fraction(int(TICKS * generator.uniform(1 / 40, 1 / 15)), TICKS)
    return times


def flash_and_click(
    path: Path, times: Sequence[Fraction], size: tuple[int, int] = (64, 48), sound_late: float = 0.0
) -> Path:
    """White and loud for a tenth of each second, black and silent else; pictures at `times`."""
    seconds = float(times[-1])
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=30, options={"preset": "ultrafast"})
        video.width, video.height, video.pix_fmt = *size, "yuv420p"
        video.time_base = video.codec_context.time_base = Fraction(1, TICKS)
        sound = container.add_stream("aac", rate=RATE, layout="stereo")
        samples = np.arange(int(seconds * RATE)) / RATE
        wave = np.where((samples - sound_late) % 1 < MARK, np.sin(samples * 2 * np.pi * 440), 0)
        written = 0
        for time in times:
            shade = 255 if time % 1 < MARK else 0
            picture = np.full((size[1], size[0], 3), shade, np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = int(time * TICKS), Fraction(1, TICKS)
            container.mux(video.encode(frame))
            while written + 1024 <= min(len(wave), float(time) * RATE + RATE):
                part = np.tile(wave[written : written + 1024].astype(np.float32) * 0.5, (2, 1))
                block = av.AudioFrame.from_ndarray(part, format="fltp", layout="stereo")
                block.sample_rate, block.pts = RATE, written
                container.mux(sound.encode(block))
                written += 1024
        container.mux(video.encode(None))
        container.mux(sound.encode(None))
    return path


def lay_on_its_side(path: Path) -> None:
    """Ask players of an mp4 for a quarter turn by its display matrix, as phones do."""
    data = bytearray(path.read_bytes())
    upright = b"\x00\x01\x00\x00" + bytes(12) + b"\x00\x01\x00\x00" + bytes(12) + b"\x40"
    turned = (b"\x00" * 4 + b"\x00\x01\x00\x00" + bytes(4) + b"\xff\xff\x00\x00" + bytes(16)
              + b"\x40")  # fmt: skip
    place = data.index(upright, data.index(b"tkhd"))
    data[place : place + len(turned)] = turned
    path.write_bytes(data)


def starts(on: np.ndarray, rate: float) -> np.ndarray:
    """Seconds at which something goes from off to on."""
    return (np.flatnonzero(np.diff(on.astype(int), prepend=0) == 1)) / rate
