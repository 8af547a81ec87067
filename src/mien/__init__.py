"""mien: one portrait and one voice in, a believable speaking video out.

The names below load on first use, so that `import mien` costs nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

from mien import _compat

if TYPE_CHECKING:
    from mien.checkpoint import load_animator, load_speech_to_motion
    from mien.motion.speech_to_motion import SpeechToMotion
    from mien.pipeline import animate, load_models
    from mien.portrait.animator import Animator

__all__ = [
    "Animator",
    "SpeechToMotion",
    "animate",
    "load_animator",
    "load_models",
    "load_speech_to_motion",
]

_HOMES = {
    "Animator": "mien.portrait.animator",
    "SpeechToMotion": "mien.motion.speech_to_motion",
    "animate": "mien.pipeline",
    "load_animator": "mien.checkpoint",
    "load_models": "mien.pipeline",
    "load_speech_to_motion": "mien.checkpoint",
}

_compat.install()


def __getattr__(name: str) -> Any:
    """Fetch a public name from its file the first time it is asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module 'mien' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
