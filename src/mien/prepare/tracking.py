"""Face tracking through one video: boxes and image statistics of every face in every frame.

Only a few values per face and frame are kept. Faces are tracked with FaceMesh; shots are separated
by the change of the whole picture. Positions are pixels of the upright picture.
Axes: t frames at 25 a second, n values of a tracked face, h w space.
"""

from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib import import_module
from typing import NamedTuple, Protocol, runtime_checkable

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from mien.errors import UserError
from mien.face import Box, Face, Landmarks, Picture, face_box, lip_gap, mouth_box
from mien.face.geometry import common, overlap
from mien.face.mesh import LEFT_EYE_OUTER, RIGHT_EYE_OUTER
from mien.types import FPS

Array = np.ndarray

PRESENT = 0.9  # FaceMesh's probability of a face, below which a track ends
SAME = 0.3  # IoU above which two boxes are one face
THUMBNAIL = (32, 18)
# Mean change of the thumbnail between frames, in grey levels, that indicates a cut: people before
# a static camera stay below 12, and a pan changes little from one frame to the next.
CUT = 28.0
# In 36 clips of 26 people, the face boxes of neighbouring frames overlap by 0.89 (IoU) or more, and
# faces change by up to 5.1 grey levels where calm, by 3.6 times their median change where not. At a
# cut from one face to another they change by 20 to 55, some 10 times the median.
STAYS, OTHER_FACE, OTHER, KNOWN = 0.7, 15.0, 8.0, 5  # IoU, grey levels, times the median, frames
CLOSER_WHILE_ALONE, CLOSER_WHILE_SEEN = 25, 250  # frames between two searches for small faces
FACE_PIXELS = 96  # sharpness is measured on faces resized to this height
# Points of the mesh: the cheeks before the ears.
RIGHT_CHEEK, LEFT_CHEEK = 234, 454


class TrackedFace(NamedTuple):
    """One face in one frame.

    Args:
        face: the box around its landmarks.
        mouth: the box around its lips.
        gap: lip opening over the distance between the eyes.
        turned: absolute yaw of the head in degrees.
        sharp: variance of the Laplacian of the face at FACE_PIXELS, in grey levels squared.
        grey: mean grey level.
        change: mean absolute change from the previous frame in the same box, in grey levels.
    """

    face: Box
    mouth: Box
    gap: float
    turned: float
    sharp: float
    grey: float
    change: float


NUMBERS = 13  # values of a tracked face


@dataclass(frozen=True)
class TrackedFaces:
    """The values of `TrackedFace` over frames, as columns."""

    rows: Float[Array, "t n"]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, part: slice) -> "TrackedFaces":
        return TrackedFaces(self.rows[part])

    @property
    def faces(self) -> Float[Array, "t 4"]:
        """The boxes around the faces."""
        return self.rows[:, 0:4]

    @property
    def mouths(self) -> Float[Array, "t 4"]:
        """The boxes around the lips."""
        return self.rows[:, 4:8]

    def column(self, name: str) -> Float[Array, " t"]:
        """One of the scalar values, by its name."""
        return self.rows[:, NUMBERS - len(TrackedFace._fields) + TrackedFace._fields.index(name)]


@dataclass
class Track:
    """One face from frame `first` on, frame by frame, within one shot: 52 bytes a frame."""

    first: int
    numbers: array = field(default_factory=lambda: array("f"))

    def add(self, face: TrackedFace) -> None:
        """Append the next frame."""
        self.numbers.extend((*face.face, *face.mouth, *face[2:]))

    def __len__(self) -> int:
        return len(self.numbers) // NUMBERS

    def keep(self, begin: int, end: int) -> None:
        """Drop what comes before frame `begin` of the video, and from frame `end` on."""
        del self.numbers[max(0, end - self.first) * NUMBERS :]
        lost = min(len(self), max(0, begin - self.first))
        del self.numbers[: lost * NUMBERS]
        self.first += lost

    @property
    def faces(self) -> TrackedFaces:
        """All frames."""
        return self.part(0, len(self))

    def part(self, begin: int, end: int) -> TrackedFaces:
        """From frame `begin` of the track to before `end`, as far as it has them."""
        numbers = self.numbers[max(0, begin) * NUMBERS : max(0, end) * NUMBERS]
        return TrackedFaces(np.array(numbers, np.float32).reshape(-1, NUMBERS))


@dataclass(frozen=True)
class FaceTracks:
    """All face tracks of a video, and its size."""

    frames: int
    width: int
    height: int
    tracks: list[Track]


@runtime_checkable
class FaceFinder(Protocol):
    """The interface of a face detector with landmarks; FaceMesh implements it."""

    def faces(self, picture: Picture) -> list[Face]:
        """The faces in a picture, largest first."""
        ...

    def small_faces(self, picture: Picture) -> list[Face]:
        """The same, also searching parts of the picture at a higher resolution."""
        ...

    def landmarks(self, picture: Picture, face: Face) -> tuple[Landmarks, float]:
        """FaceMesh's 468 points of a face near the given one, and the probability of a face."""
        ...


def load_face_finder(name: str) -> FaceFinder:
    """An instance of the class of that dotted name.

    Raises:
        UserError: there is none, or it lacks a method.
    """
    module, _, attribute = name.rpartition(".")
    try:
        finder = getattr(import_module(module), attribute)()
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise UserError(f"face_finder {name} cannot be used: {error}") from error
    if not isinstance(finder, FaceFinder):
        raise UserError(f"face_finder {name} cannot be used: it needs the methods of FaceFinder")
    return finder


class FaceTracker:
    """Tracks all faces of a video, frame by frame."""

    def __init__(self, mesh: FaceFinder, detect_every: int) -> None:
        self._mesh, self._detect_every = mesh, detect_every
        self._ended: list[Track] = []
        self._live: list[tuple[Track, Face]] = []
        self._before: Picture | None = None
        self._thumbnail: Float[Array, "h w"] | None = None
        self._count = self._next_closer = 0
        self._since_detection = detect_every  # search in the first frame

    def watch(self, pictures: Iterable[Picture]) -> FaceTracks:
        """Track the faces of all frames of one video."""
        size = 0, 0
        for picture in pictures:
            size = picture.shape[1], picture.shape[0]
            self._next_frame(picture)
        self._end_shot()
        tracks = sorted(self._ended, key=lambda track: (track.first, track.numbers[:4]))
        return FaceTracks(self._count, *size, tracks)

    def _next_frame(self, picture: Picture) -> None:
        if self._is_cut(picture):
            self._end_shot()
            self._before = None
        self._update_tracks(picture)
        if self._since_detection >= self._detect_every:
            self._look_for_new(picture)
        self._before, self._count = picture, self._count + 1
        self._since_detection += 1

    def _is_cut(self, picture: Picture) -> bool:
        small = cv2.resize(picture, THUMBNAIL, interpolation=cv2.INTER_AREA).mean(axis=2)
        before, self._thumbnail = self._thumbnail, small
        return before is not None and float(np.abs(small - before).mean()) > CUT

    def _end_shot(self) -> None:
        self._ended += [track for track, _ in self._live]
        self._live, self._next_closer, self._since_detection = [], self._count, self._detect_every

    def _update_tracks(self, picture: Picture) -> None:
        still: list[tuple[Track, Face]] = []
        for track, face in self._live:
            found = self._tracked(picture, face)
            if (
                found is None
                or _jumps(track, found[0])
                or any(overlap(found[1].box, other.box) > SAME for _, other in still)
            ):
                self._ended.append(track)
            else:
                track.add(found[0])
                still.append((track, found[1]))
        if self._live and not still:
            self._since_detection = self._detect_every  # the last face is lost: search at once
        self._live = still

    def _look_for_new(self, picture: Picture) -> None:
        self._since_detection = 0
        # Search for small faces at once in a new shot, then every second until a face is found.
        pause = CLOSER_WHILE_SEEN if self._live else CLOSER_WHILE_ALONE
        closer = self._next_closer <= self._count
        if closer:
            self._next_closer = self._count + pause
        look = self._mesh.small_faces if closer else self._mesh.faces
        for face in look(picture):
            if any(common(face.box, known.box) > 0 for _, known in self._live):
                continue
            if found := self._tracked(picture, face):
                track = Track(self._count)
                track.add(found[0])
                self._live.append((track, found[1]))

    def _tracked(self, picture: Picture, face: Face) -> tuple[TrackedFace, Face] | None:
        """The face in this frame, and the detection to start from in the next; None if lost."""
        points, present = self._mesh.landmarks(picture, face)
        if present < PRESENT:
            return None
        box = face_box(points)
        part = _inside(picture, box)
        if part is None:
            return None
        grey = part.mean(axis=2)
        before = None if self._before is None else _inside(self._before, box)
        change = 0.0 if before is None else float(np.abs(grey - before.mean(axis=2)).mean())
        values = TrackedFace(
            face=box, mouth=mouth_box(points), gap=lip_gap(points), turned=turned_aside(points),
            sharp=_sharpness(grey), grey=float(grey.mean()), change=change,
        )  # fmt: skip
        eyes = points[[RIGHT_EYE_OUTER, LEFT_EYE_OUTER], :2]
        return values, Face(box, present, np.concatenate((eyes, points[2:6, :2])))


def _jumps(track: Track, now: TrackedFace) -> bool:
    """Is this a cut to another face at the same place? Two shots before one wall may differ nowhere
    else, so the cut detector of whole pictures misses them.
    """
    seen = track.part(len(track) - FPS, len(track))
    if overlap(tuple(seen.faces[-1].tolist()), now.face) < STAYS:
        return True
    usual = float(np.median(seen.column("change")))
    return len(seen) >= KNOWN and now.change > max(OTHER_FACE, OTHER * usual)


def turned_aside(points: Landmarks) -> float:
    """Absolute yaw: degrees between the line of the cheeks and the picture plane, 0 if frontal."""
    across = points[LEFT_CHEEK] - points[RIGHT_CHEEK]
    return float(np.degrees(np.arctan2(abs(across[2]), np.linalg.norm(across[:2]))))


def _inside(picture: Picture, box: Box) -> UInt8[Array, "_ _ 3"] | None:
    """The part of the picture under the box; None if nothing is."""
    x0, y0, x1, y1 = (max(0, round(edge)) for edge in box)
    part = picture[y0:y1, x0:x1]
    return part if part.size else None


def _sharpness(grey: Float[Array, "_ _"]) -> float:
    scale = FACE_PIXELS / grey.shape[0]
    size = max(1, round(grey.shape[1] * scale)), FACE_PIXELS
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return float(cv2.Laplacian(cv2.resize(grey, size, interpolation=way), cv2.CV_64F).var())
