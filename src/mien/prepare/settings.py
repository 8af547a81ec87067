"""The numbers of data preparation; configs/prepare.yaml says them with their reasons."""

from dataclasses import dataclass, field

from mien.types import Framing


@dataclass(frozen=True)
class Cut:
    """How long clips are and what of the picture they show."""

    size: int = 256  # pixels a side
    framing: Framing = "face"  # head and shoulders, or "half_body" for gestures
    shortest: float = 2.0  # seconds; less teaches stage 2 nothing
    longest: float = 12.0  # seconds; longer parts are cut evenly


@dataclass(frozen=True)
class Limits:
    """Each check's threshold; null turns the check off."""

    smallest_face: float | None = 80.0  # pixels of the source from forehead to chin
    least_visible: float | None = 0.95  # share of the face that lies in the picture, mostly
    least_inside: float | None = 0.8  # share of the clip's square that lies in the picture
    most_faces: int | None = 1  # faces in the clip's square
    most_turned: float | None = 45.0  # degrees that the head turns aside, for nine tenths of frames
    farthest_moved: float | None = 0.6  # face heights that the head travels within its square
    least_sharp: float | None = 12.0  # contrast of fine detail on the face, in grey levels squared
    darkest: float | None = 25.0  # mean grey level of the face
    brightest: float | None = 235.0
    least_motion: float | None = 0.15  # mean change of the face between frames, in grey levels
    least_voiced: float | None = 0.2  # share of frames with sound above the quiet of the recording
    quietest: float | None = -50.0  # dB of full scale, of the loud frames
    most_clipped: float | None = 0.005  # share of samples at full scale
    least_pauses: float | None = 6.0  # dB between loud and quiet frames: music has no pauses
    most_late: int | None = 3  # frames by which sound may lead or trail the lips, where measurable


PEOPLE = ("layout", "faces")
SOUND = ("required", "optional")


@dataclass(frozen=True)
class Preparation:
    """All numbers of `mien prepare`."""

    cut: Cut = field(default_factory=Cut)
    limits: Limits = field(default_factory=Limits)
    shift_sound: bool = True  # bring measurably late or early sound back, instead of rejecting
    sound: str = "required"  # or "optional": what has none becomes clips for stage 1 alone
    people: str = "layout"  # who speaks, where the collection does not say; or "faces"
    valid_share: float = 0.05  # of the people, where the collection does not say who
    look_every: int = 5  # frames between two searches for faces that came in
    face_finder: str = "mien.face.FaceMesh"  # a class with its methods `faces` and `landmarks`
