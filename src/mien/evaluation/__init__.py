"""Does it work? Every score stands beside its trivial rivals.

`reenact`: a clip redrawn from its own first frame, beside copying that frame. `speech`: a clip's
person says its sound, beside the real mouth and another sound. `cross`: a stranger's portrait
driven by a clip, beside the driver. `sync`: lips against loudness, beside the sound reversed.
"""

from mien.evaluation.cross import CrossScore, cross_clips
from mien.evaluation.drive import drive
from mien.evaluation.lips import LipScore, Mouth, lip_score, mouth_of
from mien.evaluation.points import mouth_opening, track
from mien.evaluation.reenact import Reenactment, reenact, reenact_clips
from mien.evaluation.speech import SpeechScore, speech_clips
from mien.evaluation.summary import mean_by_identity, mean_of, median_of
from mien.evaluation.sync import video_sync

__all__ = [
    "CrossScore",
    "LipScore",
    "Mouth",
    "Reenactment",
    "SpeechScore",
    "cross_clips",
    "drive",
    "lip_score",
    "mean_by_identity",
    "mean_of",
    "median_of",
    "mouth_of",
    "mouth_opening",
    "reenact",
    "reenact_clips",
    "speech_clips",
    "track",
    "video_sync",
]
