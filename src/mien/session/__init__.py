"""Nets loaded once, for any number of portraits, sounds and driving videos."""

from mien.session.portrait import Portrait, PortraitSource
from mien.session.session import Session
from mien.session.sound import EncodedSound, SoundSource
from mien.session.stream import FrameStream, TimedFrames

__all__ = [
    "EncodedSound",
    "FrameStream",
    "Portrait",
    "PortraitSource",
    "Session",
    "SoundSource",
    "TimedFrames",
]
