"""The one door to files people made: sounds, pictures and videos, in and out."""

from mien.media.video import Frames, VideoInfo, probe_video, read_video

__all__ = ["Frames", "VideoInfo", "probe_video", "read_video"]
