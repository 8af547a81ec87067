"""Any video on mien's clock: 25 pictures and 16,000 samples a second, counted from one moment.

Cameras write 23.976, 29.97 or 50 pictures a second, phones whatever the light allowed. What counts
is when a picture was shown, so each is taken by its time stamp and never by its number: after hours
lips and sound still belong together. Nothing is held but the picture that is being shown.
Axes: h w space, s audio samples. Pictures are uint8 RGB.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import soxr
from av.error import FFmpegError
from jaxtyping import Float, UInt8

from mien.errors import UserError
from mien.media.files import readable
from mien.media.sound import Sound, read_sound
from mien.media.video import SCALING_THREADS, film, opened
from mien.types import FPS, SAMPLE_RATE

Array = np.ndarray
Picture = UInt8[Array, "h w 3"]

LOOSE = Fraction(1, 50)  # seconds by which sound may leave its time stamps before it is moved back
LONGEST_HOLE = 60  # seconds without a picture or sound; beyond, the stamps are wrong
CHUNK = SAMPLE_RATE  # samples that leave the resampler at once


class Damaged(UserError):
    """The file breaks off; what came before was good."""


@dataclass(frozen=True)
class Tracks:
    """What a file holds, undecoded: its streams, and the moment of its first picture in seconds."""

    sounds: int
    origin: Fraction


def look_inside(path: Path) -> Tracks:
    """How many sound tracks a video has, and when its first picture is shown.

    Raises:
        UserError: it cannot be read, or holds no picture.
    """
    with opened(path) as container:
        stream = film(container)
        for frame in _decoded(container, stream, path):
            return Tracks(len(container.streams.audio), _time(frame) or Fraction(0))
    raise UserError(f"the video {path} holds no frame: take another file")


def sound_of_video(path: Path) -> Sound | None:
    """The sound of a video as it is, from the moment of its first picture on; None where it has
    none.

    Raises:
        UserError: it cannot be read.
    """
    tracks = look_inside(path)
    if not tracks.sounds:
        return None
    sound = read_sound(path)
    early = round(float(tracks.origin) * sound.rate)
    late = max(0, -early)
    return Sound(np.pad(sound.samples[:, max(0, early) :], ((0, 0), (late, 0))), sound.rate)


def pictures_on_grid(path: Path) -> Iterator[Picture]:
    """Picture k is what is shown at (k + 1/2) / 25 seconds after the first, turned upright.

    The middle of a picture's own time: nothing comes more than half a picture early or late.

    Raises:
        UserError: it cannot be read, or holds no picture.
        Damaged: it breaks off; all that could be read was yielded before.
    """
    with opened(path) as container:
        stream = film(container)
        stream.thread_count = 1  # many videos are read side by side
        rate = stream.average_rate or stream.guessed_rate or Fraction(FPS)
        shown: av.VideoFrame | None = None
        origin = at = Fraction(0)
        count = 0
        for frame in _decoded(container, stream, path):
            time = _time(frame)
            if shown is None:
                origin = time or Fraction(0)
            elif (frame.width, frame.height) != (shown.width, shown.height):
                raise Damaged(f"{path} changes the size of its picture after {float(at):.1f} s")
            else:
                later = at + 1 / rate if time is None else time - origin
                if later <= at:  # a stamp that is repeated or runs back: the newer picture counts
                    shown = frame
                    continue
                if later - at > LONGEST_HOLE:
                    raise Damaged(
                        f"{path} has a hole of {float(later - at):.0f} s after {float(at):.1f} s"
                    )
                pixels = None
                while Fraction(2 * count + 1, 2 * FPS) < later:
                    pixels = (
                        _upright(shown, stream.sample_aspect_ratio) if pixels is None else pixels
                    )
                    yield pixels
                    count += 1
                at = later
            shown = frame
        if shown is None:
            raise UserError(f"the video {path} holds no frame: take another file")
        pixels = _upright(shown, stream.sample_aspect_ratio)
        while Fraction(2 * count + 1, 2 * FPS) < at + 1 / rate or count == 0:
            yield pixels
            count += 1


def _time(frame: av.VideoFrame | av.AudioFrame) -> Fraction | None:
    """The frame's time stamp in seconds, if it has one."""
    if frame.pts is None or frame.time_base is None:
        return None
    return frame.pts * frame.time_base


def _decoded(container, stream, path: Path) -> Iterator:
    """The stream's frames, those left out that cannot be decoded; a file with damaged places, or
    one that ends too early, says so at its end.
    """
    lost = 0
    try:
        for packet in container.demux(stream):
            try:
                yield from packet.decode()
            except FFmpegError:
                lost += 1
    except FFmpegError as error:
        raise Damaged(
            f"{path} breaks off ({error.strerror}): it is damaged or cut short"
        ) from error
    if lost:
        raise Damaged(f"{path} is damaged: {lost} packets of its {stream.type} were left out")


def _upright(frame: av.VideoFrame, aspect: Fraction | None) -> Picture:
    """RGB with square pixels, turned as the file asks for (phones lie on their side)."""
    width = round(frame.width * (aspect or 1))
    pixels = frame.reformat(
        width=width, height=frame.height, format="rgb24", threads=SCALING_THREADS
    ).to_ndarray()
    quarter_turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(pixels, quarter_turns))


def sound_on_grid(path: Path, origin: Fraction) -> Iterator[Float[Array, " s"]]:
    """Mono 16 kHz sound from the moment `origin` on, in pieces; silence where the file has holes.

    The first sound track counts, its channels are averaged.

    Raises:
        UserError: it cannot be read, or holds no sound.
        Damaged: it breaks off; all that could be read was yielded before.
    """
    path = readable(path, "sound")
    try:
        with av.open(str(path)) as container:
            if not container.streams.audio:
                raise UserError(f"{path} holds no sound: a talking video needs its voice")
            stream = container.streams.audio[0]
            rate = stream.rate
            if not rate:
                raise UserError(f"{path} has a sound track without a sample rate: repair it")
            resampled = soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32")
            for piece in _in_time(_decoded(container, stream, path), stream, origin, path):
                yield from _pieces(resampled.resample_chunk(piece))
            yield from _pieces(resampled.resample_chunk(np.zeros(0, np.float32), last=True))
    except FFmpegError as error:
        raise UserError(f"{path} cannot be read as sound: it is damaged") from error


def _in_time(
    frames: Iterator, stream, origin: Fraction, path: Path
) -> Iterator[Float[Array, " s"]]:
    """Mono samples at the stream's own rate, held to the time stamps: holes are filled with
    silence, what overlaps or comes before `origin` is left out.
    """
    form = planes = None
    count = 0  # samples since the origin
    for frame in frames:
        if frame.sample_rate != stream.rate:
            raise Damaged(f"the sound of {path} changes its rate at {count / stream.rate:.1f} s")
        if form != (form := (frame.format.name, frame.layout.name)):
            # FFmpeg's own mixing would follow loudness conventions: channels are averaged here.
            planes = av.AudioResampler(format="fltp", layout=frame.layout, rate=stream.rate)
        assert planes is not None
        time = _time(frame)
        parts = [part.to_ndarray().mean(axis=0) for part in planes.resample(frame)]
        mono = np.concatenate(parts or [np.zeros(0, np.float32)])
        if time is not None:
            due = round((time - origin) * stream.rate)
            if abs(due - count) > LONGEST_HOLE * stream.rate:
                raise Damaged(f"the sound of {path} jumps at {count / stream.rate:.1f} s")
            if count == 0 or abs(due - count) > LOOSE * stream.rate:
                if due > count:
                    yield np.zeros(due - count, np.float32)
                    count = due
                else:
                    mono = mono[count - due :]
        if len(mono):
            yield np.ascontiguousarray(mono, dtype=np.float32)
            count += len(mono)


def _pieces(sound: Float[Array, " s"]) -> Iterator[Float[Array, " s"]]:
    for begin in range(0, len(sound), CHUNK):
        yield sound[begin : begin + CHUNK]
