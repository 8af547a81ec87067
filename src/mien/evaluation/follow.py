"""How well portraits follow drivers: head pose and expression as fitted with the face model.

Axes: t video frames, h w space.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from mien.data.datasets import ClipCache, to_picture
from mien.data.manifest import ClipRecord
from mien.data.meshes import face_mesh
from mien.evaluation.clips import track_clip, track_frames
from mien.evaluation.comparison import Comparison, Task, TrackedClip
from mien.evaluation.cross import load_portraits
from mien.evaluation.findings import Curves, Figures, Findings, Output
from mien.evaluation.series import ratio
from mien.evaluation.suite import Scores
from mien.evaluation.summary import Scored, by_row, mean_of
from mien.evaluation.systems import Pair, System, resized
from mien.media import Frames, to_bytes

SIZE = 256  # pixels of drivers and portraits; what a system draws smaller is enlarged to it
SHARP = 128  # pixels of a picture below which faces are too small to be sure of
_SECONDS = 4.0  # of a driver's clip in which a frame at rest is looked for
STILL, ANOTHER, DRIVER = "still portrait", "another driver", "driver"
FOLLOWING = "head_pose", "head_pose_in_head", "expression"
FITTED_WITH = (
    "head_pose and expression are fitted with the face model of ICT-FaceKit: figures do not "
    "compare with those of papers, which are of FLAME"
)
MEANING = f"""Portraits are driven by clips, by the first frames of each. Same identity: by the clip
that the portrait is the first frame of; cross identity: by clips of other people. Baselines:
`{STILL}` is the portrait itself, which does not move; `{ANOTHER}` are the frames of a clip of
somebody else, what a motion that has nothing to do with the driver scores; `{DRIVER}` is the
driver's own clip; `{DRIVER} at N px` is it as small as a system draws, which shows how sure fits of
faces of that size are."""


@dataclass(frozen=True)
class Person:
    """A driver: its clip's frames to follow, a frame at rest, and whose it is."""

    name: str
    identity: str
    clip: TrackedClip
    rest: TrackedClip

    def portrait(self) -> "Portrait":
        """The first frame."""
        return Portrait(self.name, self.identity, self.clip.part(0, 1))


@dataclass(frozen=True)
class Portrait:
    """One frame of a person."""

    name: str
    identity: str
    clip: TrackedClip


@dataclass(frozen=True)
class Followed:
    """A portrait as all systems drew it, and the baselines; `sizes` are the sides in pixels of what
    each system draws.
    """

    name: str
    person: str
    rows: dict[str, Comparison]
    sizes: dict[str, int]


def load_drivers(records: Sequence[ClipRecord], root: Path, frames: int) -> list[Person]:
    """The first `frames` of each clip.

    Raises:
        UserError: a clip cannot be read or shows no face in most of its frames.
    """
    clips = ClipCache(root, SIZE, capacity=1)
    people = []
    for record in records:
        whole = track_clip(face_mesh(), clips, record, _SECONDS)
        at_rest = whole.rest()
        people.append(
            Person(
                record.path,
                record.identity,
                whole.part(0, frames),
                whole.part(at_rest, at_rest + 1),
            )
        )
    return people


def portraits_for(
    drivers: Sequence[Person], pictures: Sequence[Path]
) -> list[tuple[Person, Portrait]]:
    """Pairs of two people: every driver with every picture, or, without pictures, with the first
    frame of the next person's first clip.

    Raises:
        UserError: a picture cannot be read or shows no face.
    """
    if pictures:
        shown = [Portrait(p.name, p.name, p.clip) for p in load_portraits(pictures, SIZE)]
        return [(driver, portrait) for driver in drivers for portrait in shown]
    first: dict[str, Person] = {}
    for driver in drivers:
        first.setdefault(driver.identity, driver)
    names = list(first)
    following = {name: names[(i + 1) % len(names)] for i, name in enumerate(names)}
    return [
        (driver, first[following[driver.identity]].portrait())
        for driver in drivers
        if following[driver.identity] != driver.identity
    ]


def another(driver: Person, portrait: Portrait, drivers: Sequence[Person]) -> TrackedClip | None:
    """The next clip of a third person that is not shorter; None if there is none."""
    start = next(i for i, each in enumerate(drivers) if each is driver)
    for each in (*drivers[start + 1 :], *drivers[:start]):
        known = each.identity in (driver.identity, portrait.identity)
        if not known and len(each.clip) >= len(driver.clip):
            return each.clip.part(0, len(driver.clip))
    return None


def follow(
    systems: Mapping[str, System],
    driver: Person,
    portrait: Portrait,
    other: TrackedClip | None,
    task: Task,
) -> Followed:
    """Draw one portrait as one driver moves, by every system."""
    same = task == Task.FOLLOW
    pair = Pair(driver.clip, driver.rest, portrait.clip, same)
    drawn = {name: system(pair) for name, system in systems.items()}
    clips = {name: _tracked(frames) for name, frames in drawn.items()}
    clips[STILL] = portrait.clip.held(0, len(driver.clip))
    if other is not None:
        clips[ANOTHER] = other
    clips[DRIVER] = driver.clip
    sizes = {system: frames.shape[1] for system, frames in drawn.items()}
    for size in sorted(set(sizes.values()) - {SIZE}):
        clips[f"{DRIVER} at {size} px"] = _tracked(to_bytes(resized(driver.clip.pictures, size)))
    rows = {
        name: Comparison(task, clip, driver.clip, portrait.clip) for name, clip in clips.items()
    }
    name = driver.name if same else f"{portrait.name} by {driver.name}"
    return Followed(name, portrait.identity, rows, sizes)


def follow_all(
    systems: Mapping[str, System],
    drivers: Sequence[Person],
    pairs: Sequence[tuple[Person, Portrait]],
    task: Task,
) -> Iterator[Followed]:
    """`follow` for all pairs."""
    for driver, portrait in pairs:
        yield follow(systems, driver, portrait, another(driver, portrait, drivers), task)


def _tracked(frames: Frames) -> TrackedClip:
    """Drawn frames at SIZE, with the landmarks of the face in each."""
    pictures = to_picture(torch.from_numpy(frames))
    return track_frames(face_mesh(), to_bytes(resized(pictures, SIZE)))


def figures(kind: str, scored: Sequence[Scored], of_set: Mapping[str, Scores]) -> Figures:
    """The sections of one kind of pairs: means, their quotients with the still portrait's, and all
    pairs.
    """
    means = by_row([each.scores for each in scored], mean_of)
    means = {row: scores | of_set.get(row, {}) for row, scores in means.items()}
    still = means[STILL]
    return {
        kind: means,
        f"{kind}, share of the still portrait's": {
            row: {name: ratio(scores[name], still[name]) for name in FOLLOWING}
            for row, scores in means.items()
        },
        f"{kind}, pairs": {each.name: each.scores for each in scored},
    }


def note(found: Findings, text: str) -> None:
    """Add a note that is not there yet."""
    if text not in found.notes:
        found.notes.append(text)


def show(found: Findings, output: Output, followed: Followed, systems: Sequence[str]) -> None:
    """Add a pair's video, strip and curves to the findings."""
    rows = followed.rows
    for name, size in followed.sizes.items():
        if size < SHARP:
            note(found, f"{name} draws {size} pixels: identities and fits of faces are less sure "
                 f"below {SHARP}")  # fmt: skip
    clips = [rows[name].clip for name in (STILL, DRIVER, *systems)]
    caption = f"{followed.name}: portrait, driver, {', '.join(systems)}"
    found.videos.append((caption, output.video(followed.name, *(clip.frames for clip in clips))))
    strip = output.strip(followed.name, *(clip.pictures for clip in clips[1:]))
    found.strips.append((f"{followed.name}: driver, {', '.join(systems)}", strip))
    for name in systems:
        turns = [_turned(rows[row].clip) for row in (name, DRIVER)]
        title = f"degrees that the head has turned, {followed.name}"
        found.curves.append(Curves(title, (name, DRIVER), (turns[0], turns[1])))


def _turned(clip: TrackedClip) -> list[float]:
    """Degrees between each frame's head and the first one's; NaN where no face was found."""
    turned = np.full(len(clip), np.nan)
    if clip.fit is not None:
        rotation = Rotation.from_rotvec(clip.fit.rotation)
        turned[clip.fit.frames] = np.degrees((rotation * rotation[0].inv()).magnitude())
    return turned.tolist()
