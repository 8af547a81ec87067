"""Video in and out through PyAV: frames of a clip, and an mp4 that grows frame by frame.

Axes: t video frames, h w space. Frames are uint8 RGB.
"""

from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from jaxtyping import UInt8

from mien.errors import UserError

Array = np.ndarray
Frames = UInt8[Array, "t h w 3"]


@dataclass(frozen=True)
class VideoInfo:
    """What a video says about itself, without decoding it; `frames` is 0 where the file does not say."""

    fps: float
    width: int
    height: int
    frames: int


def probe_video(path: Path) -> VideoInfo:
    """Rate and size of a video.

    Raises:
        UserError: it cannot be read, or has no picture.
    """
    with _open(path) as container:
        stream = container.streams.video[0]
        fps = stream.average_rate or stream.guessed_rate or 0
        return VideoInfo(float(fps), stream.width, stream.height, stream.frames)


def read_video(path: Path, size: int | None = None, every: int = 1) -> Frames:
    """The frames (every `every`-th of them), as they are or scaled to size x size.

    Raises:
        UserError: the file cannot be read, or holds no frame.
    """
    frames = []
    with _open(path) as container:
        stream = container.streams.video[0]
        stream.thread_count = 1  # many small clips, read by many workers
        try:
            for number, frame in enumerate(container.decode(stream)):
                if number % every == 0:
                    scaled = frame.reformat(
                        width=size or frame.width, height=size or frame.height, format="rgb24"
                    )
                    frames.append(scaled.to_ndarray())
        except av.FFmpegError as error:
            raise UserError(
                f"the video {path} is damaged ({error.strerror}): try another copy"
            ) from error
    if not frames:
        raise UserError(f"the video {path} holds no frame: take another file")
    return np.stack(frames)


def _open(path: Path) -> av.container.InputContainer:
    if not Path(path).is_file():
        raise UserError(f"no video {path}: check the path")
    try:
        container = av.open(str(path))
    except (av.FFmpegError, OSError) as error:
        raise UserError(f"{path} cannot be read as a video ({error}): take an mp4") from error
    if not container.streams.video:
        container.close()
        raise UserError(f"{path} has no picture: take a video")
    return container
