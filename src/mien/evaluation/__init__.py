"""Evaluation: every score is reported next to those of trivial baselines.

`reenact`: self-reenactment of a clip from its first frame; baseline: copying that frame. `speech`:
a clip regenerated from its audio; baselines: the real clip, and another clip's audio. `cross`: a
portrait driven by another person's clip; baseline: the driver. `follow`: head pose and expression
of driven portraits against the driver's, as fitted with the face model; baselines: the still
portrait, and another driver. `sync`: correlation of lips and
loudness; baseline: the audio reversed.

A command makes a `Comparison` of the generated frames and of each baseline; the `Suite` scores them
with all metrics of `metrics/`.
"""

from mien.evaluation.comparison import Comparison, Task, TrackedClip
from mien.evaluation.drive import drive
from mien.evaluation.metric import ClipMetric, FrameMetric, SetMetric
from mien.evaluation.points import Mouth, mouth_of, mouth_opening, track
from mien.evaluation.suite import Suite, all_metrics
from mien.evaluation.sync import video_sync

__all__ = [
    "ClipMetric",
    "Comparison",
    "FrameMetric",
    "Mouth",
    "SetMetric",
    "Suite",
    "Task",
    "TrackedClip",
    "all_metrics",
    "drive",
    "mouth_of",
    "mouth_opening",
    "track",
    "video_sync",
]
