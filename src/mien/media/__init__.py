"""The one door to files people made: sounds, pictures and videos, in and out."""

from mien.media.picture import PICTURE_SUFFIXES, load_picture, save_strip, to_bytes
from mien.media.sound import load_audio
from mien.media.video import (
    Frames,
    VideoInfo,
    VideoWriter,
    probe_video,
    read_frames,
    read_frames_at,
    read_video,
)

__all__ = [
    "PICTURE_SUFFIXES",
    "Frames",
    "VideoInfo",
    "VideoWriter",
    "load_audio",
    "load_picture",
    "probe_video",
    "read_frames",
    "read_frames_at",
    "read_video",
    "save_strip",
    "to_bytes",
]
