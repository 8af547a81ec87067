"""mien: one portrait and one voice in, a believable speaking video out.

The names below load on first use, so that `import mien` costs nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

from mien import _compat

if TYPE_CHECKING:
    from mien.checkpoint import load_animator, load_speech_to_motion
    from mien.errors import UserError
    from mien.loki.config import LokiConfig
    from mien.loki.net import Loki
    from mien.loki.weights import load_loki
    from mien.media import Sound, VideoWriter
    from mien.motion.controls import Controls
    from mien.motion.sampling import SamplingConfig
    from mien.motion.speech_to_motion import SpeechToMotion, SpeechToMotionConfig
    from mien.pipeline import animate, reenact, reenact_by_loki
    from mien.portrait.animator import Animator, AnimatorConfig
    from mien.report import Report
    from mien.session import FrameStream, Portrait, Session, TimedFrames
    from mien.session.loki import LokiSession
    from mien.session.session import load_models

_HOMES = {
    "Animator": "mien.portrait.animator",
    "AnimatorConfig": "mien.portrait.animator",
    "Controls": "mien.motion.controls",
    "FrameStream": "mien.session",
    "Loki": "mien.loki.net",
    "LokiConfig": "mien.loki.config",
    "LokiSession": "mien.session.loki",
    "Portrait": "mien.session",
    "Report": "mien.report",
    "SamplingConfig": "mien.motion.sampling",
    "Session": "mien.session",
    "Sound": "mien.media",
    "SpeechToMotion": "mien.motion.speech_to_motion",
    "SpeechToMotionConfig": "mien.motion.speech_to_motion",
    "TimedFrames": "mien.session",
    "UserError": "mien.errors",
    "VideoWriter": "mien.media",
    "animate": "mien.pipeline",
    "load_animator": "mien.checkpoint",
    "load_loki": "mien.loki.weights",
    "load_models": "mien.session.session",
    "load_speech_to_motion": "mien.checkpoint",
    "reenact": "mien.pipeline",
    "reenact_by_loki": "mien.pipeline",
}

__all__ = [
    "Animator",
    "AnimatorConfig",
    "Controls",
    "FrameStream",
    "Loki",
    "LokiConfig",
    "LokiSession",
    "Portrait",
    "Report",
    "SamplingConfig",
    "Session",
    "Sound",
    "SpeechToMotion",
    "SpeechToMotionConfig",
    "TimedFrames",
    "UserError",
    "VideoWriter",
    "animate",
    "load_animator",
    "load_loki",
    "load_models",
    "load_speech_to_motion",
    "reenact",
    "reenact_by_loki",
]

_compat.install()


def __getattr__(name: str) -> Any:
    """Import a public name from its module on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module 'mien' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
