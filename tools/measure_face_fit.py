#!/usr/bin/env python
"""What `mien fit-face` recovers of clips whose coefficients are known.

    python tools/measure_face_fit.py [--scores face_landmarker.task] [--people 4] [--frames 50]

Made-up people speak, blink and turn their heads. They are fitted from their projected points
(FaceMesh's, as the fit's own point model has them) and from rendered pixels, found and tracked as
any video's. Then single axes of two people move alone. With --scores the 52 scores of MediaPipe's
blendshape net, in its file face_landmarker.task, are compared with the fit on the same points.
"""

import argparse
import sys
import zipfile
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from tqdm import tqdm

from mien.command_line import positive, run_guarded
from mien.errors import UserError
from mien.evaluation.fit_errors import FitErrors, moving
from mien.evaluation.series import pearson, slope
from mien.face_model.coefficients import FaceCoefficients
from mien.face_model.fitting import fit_points
from mien.face_model.known_clips import driven, projected_points, speaking
from mien.face_model.parametric import FaceModel
from mien.face_model.shading import PaintedFace
from mien.face_model.tracking import FaceTracker

PROJECTED, RENDERED, UNKNOWN = "projected points", "rendered pixels", "pixels, unknown camera"
KNOWN = PROJECTED, RENDERED
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
# FaceMesh's points that the blendshape net takes, and its scores (face_blendshapes_graph.cc of
# MediaPipe, Apache-2.0); the names are those of ARKit, after the score of a neutral face.
SCORE_POINTS = (
    *(0, 1, 4, 5, 6, 7, 8, 10, 13, 14, 17, 21, 33, 37, 39, 40, 46, 52, 53, 54, 55, 58, 61, 63, 65),
    *(66, 67, 70, 78, 80, 81, 82, 84, 87, 88, 91, 93, 95, 103, 105, 107, 109, 127, 132, 133, 136),
    *(144, 145, 146, 148, 149, 150, 152, 153, 154, 155, 157, 158, 159, 160, 161, 162, 163, 168),
    *(172, 173, 176, 178, 181, 185, 191, 195, 197, 234, 246, 249, 251, 263, 267, 269, 270, 276),
    *(282, 283, 284, 285, 288, 291, 293, 295, 296, 297, 300, 308, 310, 311, 312, 314, 317, 318),
    *(321, 323, 324, 332, 334, 336, 338, 356, 361, 362, 365, 373, 374, 375, 377, 378, 379, 380),
    *(381, 382, 384, 385, 386, 387, 388, 389, 390, 397, 398, 400, 402, 405, 409, 415, 454, 466),
    *range(468, 478),
)
_ONE_SIDED = ("browInnerUp", "cheekPuff")  # one score for both sides
SCORES = (
    *("browDownLeft", "browDownRight", "browInnerUp", "browOuterUpLeft", "browOuterUpRight"),
    *("cheekPuff", "cheekSquintLeft", "cheekSquintRight", "eyeBlinkLeft", "eyeBlinkRight"),
    *("eyeLookDownLeft", "eyeLookDownRight", "eyeLookInLeft", "eyeLookInRight", "eyeLookOutLeft"),
    *("eyeLookOutRight", "eyeLookUpLeft", "eyeLookUpRight", "eyeSquintLeft", "eyeSquintRight"),
    *("eyeWideLeft", "eyeWideRight", "jawForward", "jawLeft", "jawOpen", "jawRight", "mouthClose"),
    *("mouthDimpleLeft", "mouthDimpleRight", "mouthFrownLeft", "mouthFrownRight", "mouthFunnel"),
    *("mouthLeft", "mouthLowerDownLeft", "mouthLowerDownRight", "mouthPressLeft"),
    *("mouthPressRight", "mouthPucker", "mouthRight", "mouthRollLower", "mouthRollUpper"),
    *("mouthShrugLower", "mouthShrugUpper", "mouthSmileLeft", "mouthSmileRight"),
    *("mouthStretchLeft", "mouthStretchRight", "mouthUpperUpLeft", "mouthUpperUpRight"),
    *("noseSneerLeft", "noseSneerRight"),
)


class ScoreNet:
    """MediaPipe's blendshape net: 478 points of a frame -> its scores as expression axes.

    Raises:
        UserError: the file is not MediaPipe's.
    """

    def __init__(self, path: Path, names: tuple[str, ...]) -> None:
        from ai_edge_litert.interpreter import Interpreter

        try:
            with zipfile.ZipFile(path) as task:
                content = task.read("face_blendshapes.tflite")
        except (OSError, KeyError, zipfile.BadZipFile) as error:
            raise UserError(f"{path} is not a face_landmarker.task ({error})") from error
        self._net = Interpreter(model_content=content, num_threads=1)
        self._net.allocate_tensors()
        self._input = self._net.get_input_details()[0]["index"]
        self._output = self._net.get_output_details()[0]["index"]
        self._axes = [self._score_of(name) for name in names]

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Points (t 478 3) in pixels -> scores (t e), 0 for axes without one."""
        found = []
        for frame in points:
            self._net.set_tensor(self._input, frame[None, SCORE_POINTS, :2].astype(np.float32))
            self._net.invoke()
            found.append(np.append(self._net.get_tensor(self._output), 0.0))
        return np.stack(found)[:, self._axes]

    @staticmethod
    def _score_of(name: str) -> int:
        plain = next((n for n in _ONE_SIDED if name.startswith(n)), name)
        return 1 + (SCORES.index(plain) if plain in SCORES else len(SCORES))


@dataclass(frozen=True)
class Fitted:
    """A clip's coefficients, and the points and fits of both kinds: projected, and found in its
    pictures.
    """

    true: FaceCoefficients
    points: dict[str, np.ndarray]
    fits: dict[str, FaceCoefficients]


class Bench:
    """Face model, drawing, tracker and score net, loaded once."""

    def __init__(self, scores: Path | None) -> None:
        self.model = FaceModel.load()
        self.face, self.tracker = PaintedFace.of(self.model), FaceTracker()
        self.net = ScoreNet(scores, self.model.expression_names) if scores else None

    def fitted(self, true: FaceCoefficients) -> Fitted:
        """Draw and project a clip, and fit both.

        Raises:
            UserError: a frame shows no face.
        """
        tracked = self.tracker.track(self.face.pictures(true)).astype(np.float64)
        if np.isnan(tracked).any():
            raise UserError("no face was found in a rendered frame: the drawing is to be changed")
        points = {PROJECTED: projected_points(self.model, true), RENDERED: tracked}
        known = {kind: self.fit(true, found, true.camera.focal) for kind, found in points.items()}
        return Fitted(true, points, {**known, UNKNOWN: self.fit(true, tracked, None)})

    def fit(
        self, true: FaceCoefficients, points: np.ndarray, focal: float | None
    ) -> FaceCoefficients:
        """The coefficients of some points of a clip."""
        size = true.camera.width, true.camera.height
        return fit_points(points, size, true.fps, self.model, focal=focal)


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    p = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    p.add_argument("--scores", type=Path, help="MediaPipe's face_landmarker.task")
    p.add_argument("--people", type=positive(int), default=4, help="people who speak (4)")
    p.add_argument("--frames", type=positive(int), default=50, help="frames of each (50)")
    given = p.parse_args(argv)
    return run_guarded(lambda: _run(given))


def _run(given: argparse.Namespace) -> None:
    bench = Bench(given.scores)
    model = bench.model
    seeds = tqdm(range(given.people), unit="clip", disable=None)
    clips = [bench.fitted(speaking(model, given.frames, seed)) for seed in seeds]
    _print_errors(model, clips)
    if bench.net:
        _print_mixtures(bench.net, clips)
    someone = np.random.default_rng(0).normal(size=len(model.identity_axes))
    moves = {}
    for name in tqdm(DRIVEN, unit="axis", disable=None):
        people = np.zeros_like(someone), someone
        moves[name] = [bench.fitted(driven(model, name, person)) for person in people]
    _print_gains(model, bench.net, moves)


def _print_errors(model: FaceModel, clips: list[Fitted]) -> None:
    kinds = *KNOWN, UNKNOWN
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


def _print_mixtures(net: ScoreNet, clips: list[Fitted]) -> None:
    """Mean absolute error of expression, over the axes that move and over all."""
    print("\nexpression error (active axes / all) of mixtures of the fit and the scores")
    true = [clip.true.expression for clip in clips]
    for kind in KNOWN:
        fits = [clip.fits[kind].expression for clip in clips]
        scores = [net(clip.points[kind]) for clip in clips]
        for name, read in {"as they are": np.asarray, "since rest": _since_rest}.items():
            for share in (0.0, 0.25, 0.5, 0.75, 1.0):
                pairs = zip(fits, scores, strict=True)
                mixed = [(1 - share) * read(f) + share * read(s) for f, s in pairs]
                away = [np.abs(x - y) for x, y in zip(true, mixed, strict=True)]
                active = np.mean([a[:, moving(x)].mean() for a, x in zip(away, true, strict=True)])
                errors = f"{active:.3f} / {np.mean(away):.3f}"
                print(f"{kind:18} {share:4.0%} scores, {name:12} {errors}")


def _since_rest(curves: np.ndarray) -> np.ndarray:
    """How far curves are above what a tenth of the frames stays below."""
    return np.maximum(curves - np.percentile(curves, 10, axis=0), 0)


def _print_gains(model: FaceModel, net: ScoreNet | None, moves: dict[str, list[Fitted]]) -> None:
    """Slope and correlation of each driven axis, and the axis beside it that moves most."""
    readers = {("fit", k): lambda clip, k=k: clip.fits[k].expression for k in KNOWN}
    if net is not None:
        readers |= {("scores", k): lambda clip, k=k, net=net: net(clip.points[k]) for k in KNOWN}
    print("\none axis alone: gain, correlation, and how far another axis moves, over its own range")
    shared = {label: [] for label in readers}
    for name, clips in moves.items():
        print(name)
        columns = model.axes_of(name)
        still = np.ptp(clips[0].true.expression, axis=0) == 0
        for label, read in readers.items():
            pairs = [(clip.true.expression[:, columns[0]], read(clip)) for clip in clips]
            own = [(y[:, columns].mean(axis=1), x) for x, y in pairs]
            gain, r = np.mean([(slope(y, x), pearson(y, x)) for y, x in own], axis=0)
            beside = still * np.mean([np.ptp(y, axis=0) / np.ptp(x) for x, y in pairs], axis=0)
            most = int(beside.argmax())
            shared[label].append(beside[most])
            other = f"{model.expression_names[most]} {beside[most]:.2f}"
            print(f"    {', '.join(label):24} {gain:6.2f} {r:6.2f}    {other}")
    for label, each in shared.items():
        print(f"{', '.join(label):28} median of how far another axis moves: {np.median(each):.2f}")


if __name__ == "__main__":
    sys.exit(main())
