"""Cross-identity reenactment: portraits driven by clips of other people.

There are no ground-truth frames, but the mouth should open when the driver's does. Baselines: the
still portrait, and the driver. Axes: t video frames, h w space.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from mien.data.datasets import ClipCache
from mien.data.manifest import ClipRecord
from mien.data.meshes import face_mesh
from mien.devices import FULL, autocast
from mien.evaluation.clips import track_clip, track_frames
from mien.evaluation.comparison import Comparison, Task, TrackedClip
from mien.evaluation.drive import drive
from mien.evaluation.points import Points
from mien.evaluation.summary import Scored
from mien.face import FaceLandmarker
from mien.media import to_bytes
from mien.portrait.animator import Animator
from mien.session.portrait import load_face

MEANING = """Every portrait is driven by every clip: `drawn`. Baselines: `copied` is the still
portrait, `driver` the driving clip itself. Figures that begin with `second` use another landmark
net than FaceMesh, which drove the lips."""


@dataclass(frozen=True)
class Portrait:
    """A face at the size of the nets, one frame, and the file that it comes from."""

    name: str
    clip: TrackedClip


@dataclass(frozen=True)
class Crossed:
    """A portrait driven by a clip, and what that is compared with."""

    portrait: Portrait
    record: ClipRecord
    rows: dict[str, Comparison]

    @property
    def name(self) -> str:
        """Of the pair."""
        return f"{self.portrait.name} by {Path(self.record.path).name}"


def load_portraits(paths: Sequence[Path], size: int) -> list[Portrait]:
    """The largest face of each picture.

    Raises:
        UserError: a picture cannot be read or shows no face.
    """
    pictures = [load_face(path, None, size)[0] for path in paths]
    return [
        Portrait(path.name, track_frames(face_mesh(), to_bytes(picture), picture))
        for path, picture in zip(paths, pictures, strict=True)
    ]


@dataclass(frozen=True)
class Driving:
    """The animator, its precision, and a second landmark net to score with."""

    animator: Animator
    second: FaceLandmarker | None = None
    precision: str = FULL

    @torch.inference_mode()
    def compare(self, portrait: Portrait, record: ClipRecord, driver: TrackedClip) -> Crossed:
        """Drive one portrait by one clip, from the clip's own face at rest."""
        rest = driver.rest()
        device = next(self.animator.parameters()).device
        frames = driver.pictures.to(device)
        source = portrait.clip.pictures.to(device)
        with autocast(device, self.precision):
            meshes = driver.meshes if self.animator.config.guide else None
            parts = drive(self.animator, source, frames, rest, meshes)
            drawn_frames = np.concatenate([to_bytes(part) for part in parts])
        drawn = track_frames(face_mesh(), drawn_frames)
        pair = Comparison(Task.CROSS, drawn, driver, portrait.clip)
        if self.second is not None and np.isfinite(drawn.points).all():
            by_other = pair.with_points(self._second(drawn), self._second(driver))
            pair = replace(pair, second=by_other)
        rows = {
            "drawn": pair,
            "copied": replace(pair, clip=portrait.clip.held(0, len(driver)), second=None),
            "driver": replace(pair, clip=driver, portrait=driver.part(rest, rest + 1), second=None),
        }
        return Crossed(portrait, record, rows)

    def _second(self, clip: TrackedClip) -> Points:
        """The landmarks as the second net sees them."""
        assert self.second is not None
        frames = zip(clip.frames, clip.points, strict=True)
        return np.stack([self.second(frame, points) for frame, points in frames])


def cross_clips(
    driving: Driving,
    portraits: Sequence[Portrait],
    records: Sequence[ClipRecord],
    root: Path,
    seconds: float | None,
) -> Iterator[Crossed]:
    """Drive every portrait by every clip, or its first `seconds`.

    Raises:
        UserError: a clip cannot be read or shows no face.
    """
    clips = ClipCache(root, driving.animator.config.image_size, capacity=1)
    for record in records:
        driver = track_clip(face_mesh(), clips, record, seconds)
        for portrait in portraits:
            yield driving.compare(portrait, record, driver)


def smallest_gaps(crossed: Sequence[Scored]) -> dict[str, dict[str, float]]:
    """For each portrait the smallest gap that any driver brought it to, beside its gap at rest."""
    smallest: dict[str, dict[str, float]] = {}
    for each in crossed:
        score = each.scores["drawn"]
        first = {"smallest": score["smallest"], "rest": score["rest"]}
        so_far = smallest.setdefault(each.person, first)
        so_far["smallest"] = float(np.fmin(so_far["smallest"], score["smallest"]))
    return smallest
