"""Quality checks of a clip. Each check is one measure, one limit, and one sentence.

The measures are stored in the clip's record whether it passes or not, so that limits can be chosen
from their distribution in a data set (`tools/inspect_dataset.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from mien.audio.voice_activity import BELOW_SPEECH_DB
from mien.face import Box
from mien.face.geometry import Array, common
from mien.prepare.audio import FARTHEST, AudioAnalysis, Lateness
from mien.prepare.framing import share_inside
from mien.prepare.settings import Cut, Limits
from mien.prepare.spans import Span
from mien.prepare.tracking import FaceTracks
from mien.types import FPS


@dataclass(frozen=True)
class Measures:
    """The measures that the checks compare with their limits; units as in `Limits`.

    Args:
        sound_late: frames by which the audio lags the lips, None if the estimate is not confident.
        lag: the best lag in frames, confident or not: the median over many clips of one camera is
            reliable where a single clip is not.
        lips_follow: correlation of lips and audio at their best lag.
    """

    seconds: float
    face: float
    visible: float
    inside: float
    faces: int
    turned: float
    moved: float
    sharp: float
    grey: float
    motion: float
    voiced: float
    loud: float
    clipped: float
    pauses: float
    sound_late: int | None
    lag: int
    lips_follow: float


def measure(
    span: Span, square: Box, watched: FaceTracks, audio: AudioAnalysis, late: Lateness
) -> Measures:
    """The measures of one clip; `audio` is that of the clip's own frames."""
    seen = span.faces
    heights = seen.faces[:, 3] - seen.faces[:, 1]
    middles = (seen.faces[:, :2] + seen.faces[:, 2:]) / 2
    travel = float(np.ptp(middles, axis=0).max() / np.median(heights))
    level = audio.level
    loud, quiet = (float(np.quantile(level, part)) for part in (0.95, 0.1))
    found = Measures(
        seconds=len(span) / FPS,
        face=float(np.median(heights)),
        visible=_visible(seen.faces, watched.width, watched.height),
        inside=share_inside(square, watched.width, watched.height),
        faces=1 + _others(span, square, watched),
        turned=float(np.quantile(seen.column("turned"), 0.9)),
        moved=travel,
        sharp=float(np.median(seen.column("sharp"))),
        grey=float(seen.column("grey").mean()),
        motion=float(seen.column("change")[1:].mean()) if len(seen) > 1 else 0.0,
        voiced=float((level > loud - BELOW_SPEECH_DB).mean()) if loud > -60 else 0.0,
        loud=loud,
        clipped=float(audio.clipped.mean()),
        pauses=loud - quiet,
        sound_late=late.frames,
        lag=late.best,
        lips_follow=late.follow,
    )
    # Sums in another order differ in the last digits; records must not.
    rounded = {
        name: float(f"{value:.5g}")
        for name, value in vars(found).items()
        if isinstance(value, float)
    }
    return replace(found, **rounded)


def _visible(faces: Float[Array, "t 4"], width: int, height: int) -> float:
    """10th percentile, over frames, of the visible fraction of the face box."""
    shares = [share_inside(tuple(face), width, height) for face in faces.tolist()]
    return float(np.quantile(shares, 0.1))


def _others(span: Span, square: Box, watched: FaceTracks) -> int:
    """The number of other faces inside the clip's square for a fifth of its frames or more."""
    count = 0
    for number, track in enumerate(watched.tracks):
        if number != span.track:
            shared = track.part(span.first - track.first, span.end - track.first)
            inside = sum(common(tuple(face), square) > 0 for face in shared.faces.tolist())
            count += inside > len(span) / 5
    return count


def without_sound(limits: Limits) -> Limits:
    """The limits for a video without an audio track: those of the audio are off."""
    return replace(
        limits,
        min_loudness=None,
        min_voiced=None,
        max_clipping=None,
        min_pauses=None,
        max_audio_offset=None,
    )


def judge(found: Measures, cut: Cut, limits: Limits, shift_sound: bool) -> list[str]:
    """Why the clip is rejected, a sentence each; none if it is accepted."""
    late = found.sound_late
    # (measure, unit, minimum, maximum, what is wrong beyond them)
    checks: Sequence[tuple[float, str, float | None, float | None, str]] = (
        (found.seconds, "s", cut.min_seconds, None, "too short"),
        (found.face, "pixels", limits.min_face_size, None, "face too small"),
        (found.visible, "of the face", limits.min_visible, None, "face cut by the border"),
        (found.inside, "of the square", limits.min_inside, None, "face too near the border"),
        (found.faces, "faces", None, limits.max_faces, "more than one face"),
        (found.turned, "degrees", None, limits.max_yaw, "head turned aside"),
        (found.moved, "face heights", None, limits.max_travel, "head moves too far"),
        (found.sharp, "", limits.min_sharpness, None, "face blurred"),
        (found.grey, "grey levels", limits.min_brightness, None, "face too dark"),
        (found.grey, "grey levels", None, limits.max_brightness, "face too bright"),
        (found.motion, "grey levels", limits.min_motion, None, "picture does not move"),
        (found.loud, "dB", limits.min_loudness, None, "silent"),
        (found.voiced, "of the frames", limits.min_voiced, None, "too little speech"),
        (found.clipped, "of the samples", None, limits.max_clipping, "audio clipped"),
        (found.pauses, "dB", limits.min_pauses, None, "no pauses: music or noise"),
    )
    reasons = []
    for value, unit, least, most, wrong in checks:
        if least is not None and value < least:
            reasons.append(f"{wrong}: {value:.3g} {unit}".rstrip() + f", at least {least:g}")
        if most is not None and value > most:
            reasons.append(f"{wrong}: {value:.3g} {unit}".rstrip() + f", at most {most:g}")
    most = limits.max_audio_offset
    if most is not None and late and abs(late) > most:
        side, far = "late" if late > 0 else "early", abs(late) >= FARTHEST
        if far or not shift_sound:
            known = f"{abs(late)} frames or more" if far else f"{abs(late)} frames"
            reasons.append(f"audio {side}: {known}, at most {most}")
    return reasons
