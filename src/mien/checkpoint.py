"""The two kinds of weights of this system, animator and speech-to-motion, and the shipped weights.

`kinds.py` defines the files of weights. A speech-to-motion is bound to the animator on whose motion
it was trained.
"""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from mien.config import restore_sampling
from mien.errors import UserError
from mien.kinds import Kind, build, fingerprint, load, read_weights, register
from mien.motion.sampling import SamplingConfig
from mien.motion.speech_to_motion import SpeechToMotion, SpeechToMotionConfig
from mien.portrait.animator import Animator
from mien.portrait.config import AnimatorConfig

ANIMATOR = register(
    Kind(
        "animator",
        AnimatorConfig,
        Animator,
        "animator",
        before={"guide": False},
        renamed={
            "guide.trust": "guide.confidence",
            "interior_trust": "interior_confidence",
            "guide.look.": "guide.conv.",
            "pool.look.": "pool.score.",
            "pool.tell": "pool.readout",
        },
    )
)
SPEECH_TO_MOTION = register(
    Kind(
        "speech_to_motion",
        SpeechToMotionConfig,
        SpeechToMotion,
        "speech",
        before={"mesh": False, "direct_head": False},
        renamed={
            ".inwards.": ".in_proj.",
            ".outwards.": ".out_proj.",
            ".onward.": ".forward_in_time.",
            "stem.fold.": "stem.to_frames.",
            "conditions.before": "conditions.history_condition",
            "conditions.no_": "conditions.null_",
        },
    )
)
WEIGHTS = Path(__file__).parent / "weights"


def motion_fingerprint(animator: Mapping[str, Tensor]) -> str:
    """The fingerprint of an animator's motion: of the modules that encode motion and identity. A
    stage 2 is bound to it, and stays valid when the rendering modules are trained further.
    """
    encoders = "motion_encoder.", "appearance_vector."
    return fingerprint({_first_name(k): v for k, v in animator.items() if k.startswith(encoders)})


def _first_name(key: str) -> str:
    """The key as the first files had it: renaming must not part a speech-to-motion from its
    animator.
    """
    return key.replace("pool.score.", "pool.look.").replace("pool.readout", "pool.tell")


def load_animator(path: Path) -> Animator:
    """Rebuild an animator, ready for use (evaluation mode, on the CPU, float32).

    Raises:
        UserError: the file is missing, damaged, of another kind, or does not fit this version.
    """
    return load(path, ANIMATOR)


def load_speech_to_motion(path: Path, animator_fingerprint: str | None = None) -> SpeechToMotion:
    """Rebuild the net that turns speech into the motion of this animator, ready for use, with the
    sampling settings of its training run; with None the animator is not checked.

    Raises:
        UserError: as load_animator, it was trained on the motion of another animator, or its
            sampling settings are not of this version.
    """
    weights = read_weights(path, SPEECH_TO_MOTION)
    if animator_fingerprint not in (None, weights.animator_fingerprint):
        raise UserError(
            f"{path} was trained on the motion of animator {weights.animator_fingerprint}, but the "
            f"animator given is {animator_fingerprint}: add --speech FILE, the stage 2 that "
            "was trained with it"
        )
    net = build(weights, SPEECH_TO_MOTION, path)
    net.sampling = restore_sampling(SamplingConfig, weights.sampling, path)
    return net


def default_weights() -> tuple[Path, Path]:
    """The animator and the speech-to-motion weights that the package ships."""
    return WEIGHTS / "animator.safetensors", WEIGHTS / "speech_to_motion.safetensors"
