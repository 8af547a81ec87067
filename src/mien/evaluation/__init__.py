"""Does it work? Every score stands beside its trivial rivals.

`reenact`: a clip redrawn from its own first frame, beside copying that frame. `speech`: a clip's
person says its sound, beside the real mouth and another sound. `cross`: a stranger's portrait
driven by a clip, beside the driver. `sync`: lips against loudness, beside the sound reversed.

A command makes a `Comparison` of what was drawn and of each rival; the `Suite` scores them with all
that `metrics/` holds.
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
