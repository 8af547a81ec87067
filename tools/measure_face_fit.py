#!/usr/bin/env python
"""What `mien fit-face` recovers of clips whose coefficients are known.

    python tools/measure_face_fit.py [--people 8] [--frames 50]

Made-up people speak, blink and turn their heads. They are fitted from their projected points
(FaceMesh's, as the fit's own point model has them) and from rendered pixels, found and tracked as
any video's. Then single axes of two people move alone. Beside the fit stand the one that is drawn
to rest only, and the blendshape net's scores.
"""

import argparse
import sys
from dataclasses import dataclass, fields

import numpy as np
from tqdm import tqdm

from mien.command_line import positive, run_guarded
from mien.errors import UserError
from mien.evaluation.fit_errors import FitErrors
from mien.evaluation.series import pearson, slope
from mien.face.blendshapes import SCORES
from mien.face_model.coefficients import FaceCoefficients
from mien.face_model.fitting import fit_points
from mien.face_model.known_clips import driven, projected_points, speaking
from mien.face_model.parametric import FaceModel
from mien.face_model.shading import PaintedFace
from mien.face_model.tracking import FaceTracker

PROJECTED, RENDERED = "projected points", "rendered pixels"
UNKNOWN, UNSCORED = "pixels, unknown camera", "pixels, without scores"
ROWS = {
    "rotation": "rotation, degrees",
    "turn": "since the first frame, degrees",
    "pitch": "about the x axis, degrees",
    "picture": "skin in the picture, % of eyes",
    "space": "skin in space, % of eyes",
    "expression": "expression, all axes",
    "active": "expression, axes that move",
    "active_zero": "the same if always zero",
}
DRIVEN = (
    *("jawOpen", "mouthSmile", "eyeBlink", "mouthPucker", "mouthFunnel", "mouthClose"),
    *("mouthFrown", "mouthStretch", "mouthUpperUp", "mouthLowerDown", "mouthPress"),
    *("browInnerUp", "browDown", "browOuterUp", "eyeSquint"),
)


@dataclass(frozen=True)
class Fitted:
    """A clip's coefficients, its fits by the kind of points, and the scores of its pictures."""

    true: FaceCoefficients
    fits: dict[str, FaceCoefficients]
    scores: np.ndarray


class Bench:
    """Face model, drawing and tracker, loaded once."""

    def __init__(self) -> None:
        self.model = FaceModel.load()
        self.face, self.tracker = PaintedFace.of(self.model), FaceTracker()

    def fitted(self, true: FaceCoefficients) -> Fitted:
        """Draw and project a clip, and fit both.

        Raises:
            UserError: a frame shows no face.
        """
        seen = self.tracker.track(self.face.pictures(true)).astype(np.float64)
        if np.isnan(seen).any():
            raise UserError("no face was found in a rendered frame: the drawing is to be changed")
        projected, focal = projected_points(self.model, true), true.camera.focal
        scores = self.tracker.scores(seen)
        fits = {
            PROJECTED: self.fit(true, projected, focal, self.tracker.scores(projected)),
            RENDERED: self.fit(true, seen, focal, scores),
            UNKNOWN: self.fit(true, seen, None, scores),
            UNSCORED: self.fit(true, seen, focal, None),
        }
        return Fitted(true, fits, scores)

    def fit(
        self,
        true: FaceCoefficients,
        points: np.ndarray,
        focal: float | None,
        scores: np.ndarray | None,
    ) -> FaceCoefficients:
        """The coefficients of some points of a clip."""
        size = true.camera.width, true.camera.height
        return fit_points(points, size, true.fps, self.model, focal=focal, scores=scores)


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    p = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    p.add_argument("--people", type=positive(int), default=8, help="people who speak (8)")
    p.add_argument("--frames", type=positive(int), default=50, help="frames of each (50)")
    given = p.parse_args(argv)
    return run_guarded(lambda: _run(given))


def _run(given: argparse.Namespace) -> None:
    bench = Bench()
    model = bench.model
    seeds = tqdm(range(given.people), unit="clip", disable=None)
    _print_errors(model, [bench.fitted(speaking(model, given.frames, seed)) for seed in seeds])
    someone = np.random.default_rng(0).normal(size=len(model.identity_axes))
    moves = {}
    for name in tqdm(DRIVEN, unit="axis", disable=None):
        people = np.zeros_like(someone), someone
        moves[name] = [bench.fitted(driven(model, name, person)) for person in people]
    _print_gains(model, moves)


def _print_errors(model: FaceModel, clips: list[Fitted]) -> None:
    kinds = list(clips[0].fits)
    errors = {k: [FitErrors.of(model, clip.true, clip.fits[k]) for clip in clips] for k in kinds}
    print(
        f"\n{len(clips)} people of {len(clips[0].true)} frames; mean (of the clips, least to most)"
    )
    print(f"{'':34}" + "".join(f"{kind:>30}" for kind in kinds))
    for field in fields(FitErrors):
        row = ""
        for kind in kinds:
            each = np.array([getattr(error, field.name) for error in errors[kind]])
            row += f"{each.mean():12.3f} ({each.min():.3f} to {each.max():.3f})".rjust(30)
        print(f"{ROWS[field.name]:34}{row}")


def _print_gains(model: FaceModel, moves: dict[str, list[Fitted]]) -> None:
    """Slope and correlation of each driven axis, and the axis beside it that moves most."""
    kinds = PROJECTED, RENDERED, UNSCORED
    print("\none axis alone: gain, correlation, and how far another axis moves, over its own range")
    shared: dict[str, list[float]] = {kind: [] for kind in kinds}
    for name, clips in moves.items():
        print(name)
        columns = model.axes_of(name)
        still = np.ptp(clips[0].true.expression, axis=0) == 0
        truth = [clip.true.expression[:, columns[0]] for clip in clips]
        for kind in kinds:
            found = [clip.fits[kind].expression for clip in clips]
            gain, r = _followed(truth, [y[:, columns] for y in found])
            pairs = zip(truth, found, strict=True)
            beside = still * np.mean([np.ptp(y, axis=0) / np.ptp(x) for x, y in pairs], axis=0)
            most = int(beside.argmax())
            shared[kind].append(beside[most])
            other = f"{model.expression_names[most]} {beside[most]:.2f}"
            print(f"    {kind:24} {gain:6.2f} {r:6.2f}    {other}")
        named = [n for n, score in enumerate(SCORES) if score.startswith(name)]
        gain, r = _followed(truth, [clip.scores[:, named] for clip in clips])
        print(f"    {'scores of the pixels':24} {gain:6.2f} {r:6.2f}")
    for kind, each in shared.items():
        print(f"{kind:24} median of how far another axis moves: {np.median(each):.2f}")


def _followed(truth: list[np.ndarray], found: list[np.ndarray]) -> tuple[float, float]:
    """Slope and correlation with the truth, of the mean of both sides, over people."""
    own = [(y.mean(axis=1), x) for x, y in zip(truth, found, strict=True)]
    gain, r = np.mean([(slope(y, x), pearson(y, x)) for y, x in own], axis=0)
    return float(gain), float(r)


if __name__ == "__main__":
    sys.exit(main())
