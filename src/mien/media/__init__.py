"""The one door to files people made: sounds, pictures and videos, in and out."""

from mien.media.picture import PICTURE_SUFFIXES, load_picture, picture_size, save_strip, to_bytes
from mien.media.sound import AUTO, Sound, load_audio, read_sound, speaking_channel, to_waveform
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
    "AUTO",
    "PICTURE_SUFFIXES",
    "Frames",
    "Sound",
    "VideoInfo",
    "VideoWriter",
    "load_audio",
    "load_picture",
    "picture_size",
    "probe_video",
    "read_frames",
    "read_frames_at",
    "read_sound",
    "read_video",
    "save_strip",
    "speaking_channel",
    "to_bytes",
    "to_waveform",
]
