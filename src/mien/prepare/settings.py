"""The settings of data preparation; configs/prepare.yaml lists them with their reasons."""

from dataclasses import dataclass, field

from mien.types import Framing


@dataclass(frozen=True)
class Cut:
    """Length and framing of clips."""

    size: int = 256  # pixels a side
    framing: Framing = "face"  # head and shoulders, or "half_body" for gestures
    min_seconds: float = 2.0  # seconds; shorter ones are useless for stage 2
    max_seconds: float = 12.0  # seconds; longer parts are divided evenly


@dataclass(frozen=True)
class Limits:
    """Each check's threshold; null turns the check off."""

    min_face_size: float | None = 80.0  # pixels of the source from forehead to chin
    min_visible: float | None = 0.95  # share of the face inside the picture, 10th percentile
    min_inside: float | None = 0.8  # share of the clip's square that lies in the picture
    max_faces: int | None = 1  # faces in the clip's square
    max_yaw: float | None = 45.0  # degrees of yaw, 90th percentile
    max_travel: float | None = 0.6  # face heights, range of the face's centre over the clip
    min_sharpness: float | None = (
        12.0  # contrast of fine detail on the face, in grey levels squared
    )
    min_brightness: float | None = 25.0  # mean grey level of the face
    max_brightness: float | None = 235.0
    min_motion: float | None = 0.15  # mean change of the face between frames, in grey levels
    min_voiced: float | None = 0.2  # share of frames nearly as loud as the loud ones
    min_loudness: float | None = -50.0  # dBFS of the loud frames (95th percentile)
    max_clipping: float | None = 0.005  # share of samples at full scale
    min_pauses: float | None = 6.0  # dB between loud and quiet frames: music has no pauses
    max_audio_offset: int | None = (
        3  # frames by which audio may lead or lag the lips, where measurable
    )


PEOPLE = ("layout", "faces")
SOUND = ("required", "optional")


@dataclass(frozen=True)
class Preparation:
    """All settings of `mien prepare`."""

    cut: Cut = field(default_factory=Cut)
    limits: Limits = field(default_factory=Limits)
    shift_sound: bool = True  # shift measurably late or early audio instead of rejecting the clip
    sound: str = "required"  # or "optional": videos without audio become clips for stage 1 alone
    people: str = "layout"  # identify people by collection or folder; or "faces": by embedding
    valid_share: float = 0.05  # share of people for validation, if the collection does not say who
    detect_every: int = 5  # frames between two detections of new faces
    face_finder: str = "mien.face.FaceMesh"  # dotted name of a class with FaceFinder's methods
