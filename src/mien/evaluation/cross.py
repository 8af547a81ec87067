"""Strangers: portraits driven by clips of other people, beside the drivers themselves.

There is no right picture, but there is a right mouth: it opens when the driver's does. Rivals: the
portrait held still, and the driver. Axes: t video frames, h w space.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mien.data.datasets import ClipCache, to_picture
from mien.data.manifest import ClipRecord
from mien.evaluation.clips import Watched, watch, watch_clip
from mien.evaluation.drive import drive
from mien.evaluation.lips import NOWHERE, Mouth, mouth_of, r_of, ratio, slope_of
from mien.evaluation.looks import Likeness
from mien.evaluation.steadiness import trembling
from mien.face import FaceLandmarker, FaceMesh
from mien.media import to_bytes
from mien.portrait.animator import Animator
from mien.session.portrait import load_face


@dataclass(frozen=True)
class CrossScore:
    """A drawn mouth against the driver's: Pearson's r and slope of lip gap and mouth width.

    `smallest` is the smallest lip gap reached, `rest` that of the portrait (of the driver: at its
    rest), over the distance of the eyes. `tremble` is over the driver's, `sharpness` over the
    portrait's, `identity` the distance from the portrait. What begins with `second` is seen by
    another net than FaceMesh, which steered the lips.
    """

    gap: float
    gap_slope: float
    width: float
    width_slope: float
    smallest: float
    rest: float
    tremble: float = NOWHERE
    sharpness: float = NOWHERE
    identity: float = NOWHERE
    second_gap: float = NOWHERE
    second_gap_slope: float = NOWHERE
    second_width: float = NOWHERE
    second_width_slope: float = NOWHERE


@dataclass(frozen=True)
class Portrait:
    """A face at the size of the nets, and what FaceMesh sees in it."""

    name: str
    picture: Float[Tensor, "1 3 h w"]
    seen: Watched


@dataclass(frozen=True)
class Crossed:
    """A portrait driven by a clip, the scores of it and of its rivals."""

    portrait: Portrait
    record: ClipRecord
    scores: dict[str, CrossScore]
    driver: Watched
    drawn: Watched


def load_portraits(paths: Sequence[Path], mesh: FaceMesh, size: int) -> list[Portrait]:
    """The largest face of each picture.

    Raises:
        UserError: a picture cannot be read or shows no face.
    """
    pictures = [load_face(path, None, size)[0] for path in paths]
    return [
        Portrait(path.name, picture, watch(mesh, to_bytes(picture)))
        for path, picture in zip(paths, pictures, strict=True)
    ]


def mouth_against(drawn: Mouth, driver: Mouth, rest: float) -> CrossScore:
    """How a mouth follows the driver's; `rest` is its gap at rest."""
    return CrossScore(
        gap=r_of(drawn.gap, driver.gap),
        gap_slope=slope_of(drawn.gap, driver.gap),
        width=r_of(drawn.width, driver.width),
        width_slope=slope_of(drawn.width, driver.width),
        smallest=float(drawn.gap.min()),
        rest=rest,
    )


class CrossJudge:
    """The net and all that looks at what it draws, loaded once."""

    def __init__(self, animator: Animator, second: FaceLandmarker | None = None) -> None:
        self.animator, self.second = animator, second
        self.mesh, self.likeness = FaceMesh(), Likeness()

    @torch.inference_mode()
    def judge(self, portrait: Portrait, record: ClipRecord, driver: Watched) -> Crossed:
        """Drive one portrait by one clip, from the clip's own face at rest."""
        rest = driver.rest()
        frames = to_picture(torch.from_numpy(driver.frames))
        parts = drive(self.animator, portrait.picture, frames, driver.picture(rest))
        drawn = watch(self.mesh, np.concatenate([to_bytes(part) for part in parts]))
        seen = portrait.seen
        own_rest = float(seen.mouth.gap[0])
        followed = mouth_against(drawn.mouth, driver.mouth, own_rest)
        still = seen.mouth.held(0, len(driver))
        scores = {
            "drawn": replace(
                followed,
                **self._seen_by_second(drawn, driver),
                tremble=ratio(trembling(drawn.points), trembling(driver.points)),
                sharpness=ratio(drawn.sharpness(), seen.sharpness()),
                identity=self.likeness.distance(
                    drawn.frames, drawn.points, seen.frames[0], seen.points[0]
                ),
            ),
            "copied": mouth_against(still, driver.mouth, own_rest),
            "driver": mouth_against(driver.mouth, driver.mouth, float(driver.mouth.gap[rest])),
        }
        return Crossed(portrait, record, scores, driver, drawn)

    def _seen_by_second(self, drawn: Watched, driver: Watched) -> dict[str, float]:
        """The same comparison of mouths, as another net sees them."""
        if self.second is None or not np.isfinite(drawn.points).all():
            return {}
        made, real = (
            mouth_of(np.stack([self.second(f, p) for f, p in zip(w.frames, w.points, strict=True)]))
            for w in (drawn, driver)
        )
        score = mouth_against(made, real, NOWHERE)
        names = ("gap", "gap_slope", "width", "width_slope")
        return {f"second_{name}": getattr(score, name) for name in names}


def cross_clips(
    judge: CrossJudge,
    portraits: Sequence[Portrait],
    records: Sequence[ClipRecord],
    root: Path,
    seconds: float | None,
) -> Iterator[Crossed]:
    """Drive every portrait by every clip, or its first `seconds`.

    Raises:
        UserError: a clip cannot be read or shows no face.
    """
    clips = ClipCache(root, judge.animator.config.image_size, capacity=1)
    for record in records:
        driver = watch_clip(judge.mesh, clips, record, seconds)
        for portrait in portraits:
            yield judge.judge(portrait, record, driver)


def smallest_gaps(crossed: Sequence[tuple[str, CrossScore]]) -> dict[str, dict[str, float]]:
    """For each portrait the smallest gap that any driver brought it to, beside its gap at rest."""
    smallest: dict[str, dict[str, float]] = {}
    for name, score in crossed:
        so_far = smallest.setdefault(name, {"smallest": score.smallest, "rest": score.rest})
        so_far["smallest"] = float(np.fmin(so_far["smallest"], score.smallest))
    return smallest
