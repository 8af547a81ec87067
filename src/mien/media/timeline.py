"""Resample any video by its time stamps: 25 frames and 16,000 audio samples a second.

Cameras write 23.976, 29.97 or 50 frames a second, phones a variable rate. Frames are selected by
their time stamps and never by their number, so lips and audio stay in sync even after hours. Only
the current frame is kept in memory.
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
from mien.media.sound import EmptySound, Sound, read_sound
from mien.media.video import SCALING_THREADS, film, opened
from mien.paths import readable
from mien.types import FPS, SAMPLE_RATE

Array = np.ndarray
Picture = UInt8[Array, "h w 3"]

LOOSE = Fraction(1, 50)  # seconds: maximum drift of audio samples from their time stamps
LONGEST_HOLE = 60  # seconds without a frame or audio; beyond, the time stamps are wrong
CHUNK = SAMPLE_RATE  # samples that are yielded at once


class Damaged(UserError):
    """The file is damaged or truncated; what was read before is valid."""


@dataclass(frozen=True)
class Tracks:
    """The number of audio tracks of a file, and the time of its first frame in seconds."""

    sounds: int
    origin: Fraction


def look_inside(path: Path) -> Tracks:
    """How many audio tracks a video has, and the time of its first frame.

    Raises:
        UserError: it cannot be read, or has no frame.
    """
    with opened(path) as container:
        stream = film(container)
        for frame in _decoded(container, stream, path):
            return Tracks(len(container.streams.audio), _time(frame) or Fraction(0))
    raise UserError(f"the video {path} has no frame: take another file")


def sound_of_video(path: Path) -> Sound | None:
    """The audio of a video as it is, from the time of its first frame on; None if it has no audio
    track.

    Raises:
        UserError: it cannot be read.
    """
    tracks = look_inside(path)
    if not tracks.sounds:
        return None
    try:
        sound = read_sound(path)
    except EmptySound:
        return None
    early = round(float(tracks.origin) * sound.rate)
    late = max(0, -early)
    return Sound(np.pad(sound.samples[:, max(0, early) :], ((0, 0), (late, 0))), sound.rate)


def pictures_on_grid(path: Path) -> Iterator[Picture]:
    """Frame k is the one shown at (k + 1/2) / 25 seconds after the first, rotated upright.

    That is the middle of its interval: no frame is more than half a frame early or late.

    Raises:
        UserError: it cannot be read, or has no frame.
        Damaged: it is damaged; all that could be read was yielded before.
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
                if later <= at:  # a repeated or decreasing time stamp: the newer frame counts
                    shown = frame
                    continue
                if later - at > LONGEST_HOLE:
                    raise Damaged(
                        f"{path} has a gap of {float(later - at):.0f} s after {float(at):.1f} s"
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
            raise UserError(f"the video {path} has no frame: take another file")
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
    """The stream's frames without those that cannot be decoded; a damaged or truncated file raises
    Damaged at its end.
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
    """RGB with square pixels, rotated by the file's display matrix (phones store it sideways)."""
    width = round(frame.width * (aspect or 1))
    pixels = frame.reformat(
        width=width, height=frame.height, format="rgb24", threads=SCALING_THREADS
    ).to_ndarray()
    quarter_turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(pixels, quarter_turns))


def sound_on_grid(path: Path, origin: Fraction) -> Iterator[Float[Array, " s"]]:
    """Mono 16 kHz audio from the time `origin` on, in pieces; gaps are filled with silence.

    The first audio track is used, its channels are averaged.

    Raises:
        UserError: it cannot be read, or has no audio track.
        Damaged: it is damaged; all that could be read was yielded before.
    """
    path = readable(path, "sound")
    try:
        with av.open(str(path)) as container:
            if not container.streams.audio:
                raise UserError(f"{path} has no audio track: give a file with the voice")
            stream = container.streams.audio[0]
            rate = stream.rate
            if not rate:
                raise UserError(f"{path} has an audio track without a sample rate: repair it")
            resampled = soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32")
            for piece in _in_time(_decoded(container, stream, path), stream, origin, path):
                yield from _pieces(resampled.resample_chunk(piece))
            yield from _pieces(resampled.resample_chunk(np.zeros(0, np.float32), last=True))
    except FFmpegError as error:
        raise UserError(f"{path} cannot be read as sound: it is damaged") from error


def _in_time(
    frames: Iterator, stream, origin: Fraction, path: Path
) -> Iterator[Float[Array, " s"]]:
    """Mono samples at the stream's own rate, synchronised to the time stamps: gaps are filled with
    silence, what overlaps or comes before `origin` is dropped.
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
