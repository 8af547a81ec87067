"""What tracking and fitting recover of pictures of people whose coefficients are known.

The bounds are loose: tools/measure_face_fit.py prints the errors of more people and axes, and
docs/experiments.md explains them, the constant pitch among them.
"""

from dataclasses import replace

import numpy as np
import pytest

from mien.errors import UserError
from mien.evaluation.fit_errors import FitErrors
from mien.evaluation.series import pearson, slope
from mien.face.blendshapes import SCORES
from mien.face_model.clips import fit_frames
from mien.face_model.coefficients import FaceCoefficients
from mien.face_model.fitting import SCORED, fit_points
from mien.face_model.known_clips import (
    CAMERA,
    at_rest,
    driven,
    projected_points,
    speaking,
)
from mien.face_model.shading import PaintedFace
from mien.face_model.tracking import FaceTracker

FRAMES = 26


@pytest.fixture(scope="module")
def face(model) -> PaintedFace:
    return PaintedFace.of(model)


@pytest.fixture(scope="module")
def true(model) -> FaceCoefficients:
    """Somebody who turns the head as a speaker does, opens the jaw, then smiles, and blinks."""
    clip = speaking(model, FRAMES, seed=0)
    expression = np.zeros_like(clip.expression)
    rise = np.sin(np.linspace(0, np.pi, FRAMES // 2))[:, None]
    expression[: FRAMES // 2, model.axes_of("jawOpen")] = 0.6 * rise
    expression[FRAMES // 2 :, model.axes_of("mouthSmile")] = 0.8 * rise
    expression[16:23, model.axes_of("eyeBlink")] = np.hanning(9)[1:-1, None]
    return replace(clip, expression=expression, eyes=np.zeros_like(clip.eyes))


@pytest.fixture(scope="module")
def pictures(face, true) -> list[np.ndarray]:
    return list(face.pictures(true))


@pytest.fixture(scope="module")
def found(model, pictures) -> FaceCoefficients:
    return fit_frames(pictures, "the clip", model=model, focal=CAMERA.focal)


def test_every_frame_shows_the_face(found):
    np.testing.assert_array_equal(found.frames, np.arange(FRAMES))


def test_pose_and_shape_of_a_rendered_clip_are_recovered(model, true, found):
    error = FitErrors.of(model, true, found)
    print(error)
    assert error.turn < 2.5  # degrees since the first frame
    assert error.rotation < 8  # degrees, the constant pitch among them
    assert error.picture < 10 and error.space < 20  # per cent of the eye distance


@pytest.mark.parametrize(
    ("name", "least", "smallest"),
    [("jawOpen", 0.95, 0.6), ("mouthSmile", 0.9, 0.4), ("eyeBlink", 0.8, 0.3)],
)
def test_movements_of_a_rendered_clip_are_recovered(model, true, found, name, least, smallest):
    columns = model.axes_of(name)
    known, fitted = (c.expression[:, columns].mean(axis=1) for c in (true, found))
    gain, correlation = slope(fitted, known), pearson(fitted, known)
    print(f"{name}: gain {gain:.2f}, correlation {correlation:.2f}")
    assert correlation > least and smallest < gain < 1.6


ONE_SIDED = [f"{name}{side}" for name in ("mouthSmile", "mouthUpperUp", "eyeBlink")
             for side in ("Left", "Right")]  # fmt: skip


@pytest.mark.parametrize("name", ["jawOpen", "mouthPucker", *ONE_SIDED])
def test_the_score_of_a_movement_bears_its_name(model, face, name):
    """So that points and scores of the net are numbered rightly, left and right among them."""
    rest = at_rest(model, 2, np.zeros(len(model.identity_axes)))
    moved = replace(rest, expression=rest.expression.copy())
    moved.expression[1, model.expression_names.index(name)] = 0.8
    tracker = FaceTracker()
    scores = tracker.scores(tracker.track(face.pictures(moved)))
    rise = dict(zip(SCORES, scores[1] - scores[0], strict=True))
    other = name.replace("Left", "_").replace("Right", "Left").replace("_", "Right")
    assert rise[name] > 0.1 and (other == name or rise[name] > 2 * rise[other])
    assert name in sorted(rise, key=lambda each: rise[each])[-4:], "few other scores rise more"


def test_a_picture_without_a_face_has_no_scores(face, model):
    tracker, person = FaceTracker(), at_rest(model, 1, np.zeros(len(model.identity_axes)))
    picture = next(face.pictures(person))
    scores = tracker.scores(tracker.track([picture, np.zeros_like(picture)]))
    assert np.isfinite(scores[0]).all() and np.isnan(scores[1]).all()


def test_what_points_hardly_show_is_taken_from_the_scores(model, face):
    """A pucker of the lips, which the fit of points alone takes for other axes."""
    true = driven(model, "mouthPucker", np.zeros(len(model.identity_axes)))
    pictures, tracker = list(face.pictures(true)), FaceTracker()
    points, known = tracker.track(pictures), true.expression[:, model.axes_of("mouthPucker")[0]]
    size, focal = (CAMERA.width, CAMERA.height), CAMERA.focal
    alone = fit_points(points, size, 25.0, model, focal=focal)
    whole = fit_frames(pictures, "the clip", tracker, model, focal=focal)
    gains = [slope(fit.expression[:, model.axes_of("mouthPucker")[0]], known)
             for fit in (alone, whole)]  # fmt: skip
    assert gains[1] > gains[0] + 0.05


def test_a_person_at_rest_is_fitted_at_rest_on_the_axes_of_the_scores(model, face):
    someone = np.random.default_rng(0).normal(size=len(model.identity_axes))
    pictures = list(face.pictures(at_rest(model, 1, someone)))
    found = fit_frames(pictures, "the picture", model=model, focal=CAMERA.focal)
    axes = [n for n, name in enumerate(model.expression_names) if name.startswith(SCORED)]
    assert found.expression[0, axes].max() < 0.15


def test_scores_of_other_points_are_refused(model, true):
    points = projected_points(model, true)
    size = CAMERA.width, CAMERA.height
    for scores in (np.zeros((FRAMES, 3)), np.full((FRAMES, len(SCORES)), np.nan)):
        with pytest.raises(ValueError, match="are not those of these points"):
            fit_points(points, size, 25.0, model, scores=scores)


def test_projected_points_are_those_of_the_pictures(model, true, pictures):
    """But for what FaceMesh's places are off by, and for depth, whose zero is the nets' own."""
    tracked = FaceTracker().track(pictures[::8])
    known = projected_points(model, true)[::8, :, :2]
    eyes = np.linalg.norm(known[:, 468] - known[:, 473], axis=1).mean()
    away = np.linalg.norm(tracked[..., :2] - known, axis=2).mean(axis=0) / eyes
    assert away[:468].mean() < 0.08 and away[468:].max() < 0.08


def test_the_errors_of_the_truth_are_zero(model, true):
    error = FitErrors.of(model, true, true)
    assert (error.rotation, error.picture, error.space, error.expression) == (0, 0, 0, 0)
    assert error.active == 0 < error.active_zero


def test_a_picture_is_the_same_every_time_and_shows_what_moves(model, face):
    rest = at_rest(model, 1, np.zeros(100))
    picture = next(face.pictures(rest))
    np.testing.assert_array_equal(picture, next(face.pictures(rest)))
    assert picture.shape == (CAMERA.height, CAMERA.width, 3)
    opened = replace(rest, expression=rest.expression.copy())
    opened.expression[:, model.axes_of("jawOpen")] = 1
    changed = np.abs(next(face.pictures(opened)).astype(int) - picture).max(axis=2) > 20
    lip = int(projected_points(model, rest)[0, 13, 1])
    assert changed[lip:].mean() > max(0.05, 3 * changed[:lip].mean())


def test_a_model_without_points_cannot_be_painted(model):
    with pytest.raises(UserError, match="no FaceMesh points"):
        PaintedFace.of(replace(model, points=None))
