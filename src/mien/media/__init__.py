"""Reading and writing of media files: audio, pictures and videos."""

from PIL.Image import Image as PILImage

from mien.media.picture import (
    PICTURE_SUFFIXES,
    load_picture,
    picture_of,
    picture_size,
    save_strip,
    to_bytes,
    upright_size,
)
from mien.media.sound import (
    AUTO,
    Sound,
    load_audio,
    read_sound,
    refuse_sound,
    section,
    speaking_channel,
    to_waveform,
)
from mien.media.timeline import pictures_on_grid, sound_of_video
from mien.media.video import (
    WRITERS,
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
    "WRITERS",
    "PICTURE_SUFFIXES",
    "Frames",
    "PILImage",
    "Sound",
    "VideoInfo",
    "VideoWriter",
    "load_audio",
    "load_picture",
    "picture_of",
    "picture_size",
    "pictures_on_grid",
    "probe_video",
    "read_frames",
    "read_frames_at",
    "read_sound",
    "read_video",
    "refuse_sound",
    "save_strip",
    "section",
    "sound_of_video",
    "speaking_channel",
    "to_bytes",
    "to_waveform",
    "upright_size",
]
