"""Fitting recovers what was projected; errors are printed (`pytest -rP`) and bounded.

What it recovers of pictures: test_fitting_rendered.py.
"""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from mien.errors import UserError
from mien.evaluation.fit_errors import FitErrors
from mien.face_model.coefficients import FaceCoefficients
from mien.face_model.fitting import fit_points
from mien.face_model.gaze import gaze_of, lids_of
from mien.face_model.parametric import FaceModel
from mien.face_model.point_basis import PointBasis
from mien.face_model.points import points_of
from mien.face_model.residuals import Observations, equations
from mien.face_model.smooth_solve import second_difference_gradient, smoothing_weights, solve
from mien.face_model.solution import State, solve_motion
from tests.face_model.faces import CAMERA, coefficients

SIZE = (CAMERA.width, CAMERA.height)
JITTER = 0.4  # pixels: standard deviation of FaceMesh's points between frames of a still face


@pytest.fixture(scope="module")
def basis(model) -> PointBasis:
    return PointBasis.of(model)


def clip(model: FaceModel, t: int = 50, seed: int = 0) -> FaceCoefficients:
    """A made-up person, looking ahead, with expressions that are fitted."""
    here = coefficients(model, t, seed)
    expression = here.expression.copy()
    for n, name in enumerate(model.expression_names):
        if name.startswith(("eyeLook", "cheekRaiser")):
            expression[:, n] = 0
    return replace(here, expression=expression, eyes=np.zeros_like(here.eyes))


def fitted(model, basis, points, identity=None) -> FaceCoefficients:
    return fit_points(
        points, SIZE, 25.0, model=model, basis=basis, focal=CAMERA.focal, identity=identity
    )


@pytest.mark.parametrize("noise", [0.0, JITTER])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_projected_clip_is_recovered(model, basis, noise, seed):
    true = clip(model, seed=seed)
    random = np.random.default_rng(seed)
    points = points_of(model, true)
    found = fitted(model, basis, points + random.normal(0, noise, points.shape))
    error = FitErrors.of(model, true, found)
    print(f"noise {noise} px, seed {seed}: {error}")
    assert error.rotation < 1.0  # degrees
    assert error.picture < 3.0  # per cent of the eye distance
    assert error.space < 5.0
    assert error.expression < 0.06  # of a range of 1


def difference(one: FaceCoefficients, other: FaceCoefficients) -> tuple[float, float, float]:
    """Rotation in degrees, expression, and the changes of expression in time."""
    turn = Rotation.from_rotvec(one.rotation) * Rotation.from_rotvec(other.rotation).inv()
    changes = [c.expression - c.expression.mean(axis=0) for c in (one, other)]
    return (
        float(np.degrees(turn.magnitude()).mean()),
        float(np.abs(one.expression - other.expression).mean()),
        float(np.abs(np.subtract(*changes)).mean()),
    )


def test_motion_is_the_same_under_two_identities(model, basis):
    """Another person's identity, half a standard deviation off on each axis, fitted to the clip."""
    points = points_of(model, clip(model, seed=2))
    own = fitted(model, basis, points)
    random = np.random.default_rng(9)
    someone = own.identity + 0.5 * random.normal(size=len(own.identity))
    turn, level, changes = difference(own, fitted(model, basis, points, identity=someone))
    print(f"rotation {turn:.2f} degrees, expression {level:.3f}, its changes {changes:.3f}")
    assert turn < 2 and level < 0.1 and changes < 0.03


def test_two_people_who_move_alike_are_fitted_alike(model, basis):
    one = clip(model, seed=3)
    other = one.with_identity_of(clip(model, seed=4))
    fits = [fitted(model, basis, points_of(model, person)) for person in (one, other)]
    turn, level, changes = difference(*fits)
    print(f"rotation {turn:.2f} degrees, expression {level:.3f}, its changes {changes:.3f}")
    assert turn < 1.5 and level < 0.06 and changes < 0.03
    assert np.linalg.norm(fits[0].identity - fits[1].identity) > 3, "they are two people"


def test_points_that_are_surer_are_fitted_closer(model, basis):
    true = clip(model, t=20, seed=5)
    given = points_of(model, true), SIZE, 25.0, model, basis, CAMERA.focal
    sure, unsure = (
        FitErrors.of(model, true, fit_points(*given, deviation=deviation))
        for deviation in (0.25, 1.0)
    )
    assert sure.picture < 0.8 * unsure.picture
    assert sure.space < 0.8 * unsure.space and sure.active < 0.8 * unsure.active


def test_a_known_identity_is_kept(model, basis):
    true = clip(model, t=8)
    found = fitted(model, basis, points_of(model, true), identity=true.identity)
    np.testing.assert_array_equal(found.identity, true.identity)
    assert FitErrors.of(model, true, found).space < 1.5


def test_a_still_head_does_not_tremble_and_a_step_has_no_lag(model, basis):
    true = clip(model, t=40)
    yaw = np.radians(10) / (1 + np.exp(-(np.arange(40) - 19.5) / 2))
    true = replace(
        true,
        expression=np.zeros_like(true.expression),
        rotation=np.stack([0 * yaw, yaw, 0 * yaw], axis=1),
        translation=np.tile([0.0, 0.0, 100.0], (40, 1)),
    )
    points = points_of(model, true)
    noisy = points + np.random.default_rng(0).normal(0, 2 * JITTER, points.shape)
    found = fitted(model, basis, noisy)
    seen = found.rotation[:, 1]
    assert np.degrees(np.abs(np.diff(seen[:10], 2))).mean() < 0.05
    shifts = np.arange(-3, 4)
    match = [np.square(np.roll(seen, s)[5:-5] - yaw[5:-5]).mean() for s in shifts]
    assert shifts[int(np.argmin(match))] == 0


def test_the_fit_is_the_best_within_its_bounds(model, basis):
    """Values on a bound would get better beyond it, and all others are at rest: the others have
    taken over what those on their bounds cannot do.
    """
    true = replace(clip(model, t=2, seed=2), identity=np.zeros(100))
    observed, count = Observations(points_of(model, true), CAMERA), basis.expressions
    highest = 0.1
    state = State(
        identity=np.zeros(len(basis.axes) - count),
        expression=np.zeros((2, count)),
        rotation=Rotation.from_rotvec(true.rotation),
        translation=true.translation,
        offsets=np.zeros((2, 468, 3)),
        bounds=np.array([[0.0] * count, [highest] * count]),
        expected=np.zeros((2, count)),
        sigma=np.ones(count),
    )

    def downhill(state: State) -> np.ndarray:
        found = state.equations(basis, observed, count).gradient
        return found - np.concatenate([np.zeros((2, 6)), state.expression], axis=1)

    before = np.abs(downhill(state)).max()
    for _ in range(3):
        state = solve_motion(basis, observed, state, true.frames, 25.0, np.full(count, 25.0))
    assert not state.expression.min() < 0 and not state.expression.max() > highest
    slope, values = downhill(state)[:, 6:] / before, state.expression
    low, high = values < 1e-6, values > highest - 1e-6
    assert low.any() and high.sum() > 5, "the bounds matter"
    assert np.abs(slope[~(low | high)]).max() < 1e-6
    assert slope[low].max() < 1e-6 and slope[high].min() > -1e-6


def test_lost_frames_are_left_out_and_numbered(model, basis):
    points = points_of(model, clip(model, t=12))
    points[[0, 5, 6]] = np.nan
    found = fitted(model, basis, points)
    assert found.frames.tolist() == [1, 2, 3, 4, 7, 8, 9, 10, 11]
    assert len(found.rotation) == len(found) == 9


@pytest.mark.parametrize("t", [1, 2, 3])
def test_a_picture_is_a_clip_of_one_frame(model, basis, t):
    true = clip(model, t=t)
    found = fitted(model, basis, points_of(model, true))
    assert FitErrors.of(model, true, found).rotation < 1.5


def test_parts_of_a_long_clip_join_without_a_seam(model, basis, monkeypatch):
    """With their overlap the fit is that of all frames at once, without it there is a seam."""
    points = points_of(model, clip(model, t=110))
    points += np.random.default_rng(0).normal(0, JITTER, points.shape)
    nobody = np.zeros(100)
    whole = fitted(model, basis, points, nobody)
    monkeypatch.setattr("mien.face_model.solution._CHUNK", 80)
    apart = {}
    for overlap in (50, 0):
        monkeypatch.setattr("mien.face_model.solution._OVERLAP", overlap)
        parts = fitted(model, basis, points, nobody)
        rotation = np.degrees(np.abs(parts.rotation - whole.rotation)).max()
        apart[overlap] = rotation, np.abs(parts.expression - whole.expression).max()
    assert apart[50][0] < 0.02 < apart[0][0] and apart[50][1] < 0.01 < apart[0][1]


def test_no_face_is_said(model, basis):
    with pytest.raises(UserError, match="none of 3 frames"):
        fitted(model, basis, np.full((3, 468, 3), np.nan))


@pytest.mark.parametrize("point", [np.inf, np.nan, 1e200, 7.0])
def test_a_frame_of_points_that_are_no_face_is_named(model, basis, point):
    points = points_of(model, clip(model, t=6))
    points[4, : 468 if point == 7 else 1] = point  # 7: all at one place
    with pytest.raises(UserError, match="the points of frame 4 are not finite or not those"):
        fitted(model, basis, points)


def test_equations_without_a_solution_are_one_sentence(model, basis):
    points = points_of(model, clip(model, t=6))
    points[3] += np.random.default_rng(0).normal(size=points[3].shape) * 20
    with pytest.raises(UserError, match="cannot be fitted .*frame 3: cut"):
        nowhere = replace(basis, expression_columns=basis.expression_columns * np.nan)
        fitted(model, nowhere, points, identity=np.zeros(100))


def test_without_points_a_model_cannot_be_fitted(model):
    with pytest.raises(UserError, match="no FaceMesh points"):
        PointBasis.of(replace(model, points=None))


def test_the_gradient_is_that_of_the_residuals(model, basis):
    true = clip(model, t=2)
    observed = Observations(points_of(model, true), CAMERA)
    turn = Rotation.from_rotvec(true.rotation + 0.03)
    shift = true.translation + 0.5
    heads = np.broadcast_to(basis.neutral, (2, 468, 3))
    observed = replace(observed, deviation=0.25)
    count = basis.expressions
    found = equations(basis, observed, heads, turn, shift, count)

    def cost(step: np.ndarray, t: int) -> float:
        moved = heads[t] + basis.shape(step[6:])
        placed = (Rotation.from_rotvec(step[:3]) * turn[t]).apply(moved) + shift[t] + step[3:6]
        part = Observations(observed.points[t : t + 1], CAMERA)
        residual = part.residuals(basis, placed[None], shift[t : t + 1])[0]
        return 0.5 * float((np.square(residual) * [1, 1, 0.1] * basis.weights[:, None]).sum())

    for t in range(2):
        for n in (0, 1, 2, 3, 4, 6, 20, 40):
            step = np.zeros(6 + count)
            step[n] = 1e-5
            slope = (cost(-step, t) - cost(step, t)) / 2e-5 / 0.25**2
            assert found.gradient[t, n] == pytest.approx(slope, rel=2e-4, abs=1e-3)


def test_the_solve_is_that_of_the_full_matrix():
    random = np.random.default_rng(0)
    t, n = 7, 4
    root = random.normal(size=(t, n, n))
    curvature, gradient = root @ root.transpose(0, 2, 1) + np.eye(n), random.normal(size=(t, n))
    smooth, frames = random.uniform(0, 3, n), np.array([0, 1, 2, 3, 5, 6, 7])
    fixed = random.random((t, n)) < 0.2
    full = np.zeros((t * n, t * n))
    for f in range(t):
        full[f * n : f * n + n, f * n : f * n + n] = curvature[f]
    for f in range(t - 2):
        if frames[f + 2] - frames[f] == 2:
            for j in range(n):
                row = np.zeros(t * n)
                row[[f * n + j, (f + 1) * n + j, (f + 2) * n + j]] = 1, -2, 1
                full += smooth[j] * np.outer(row, row)
    free = ~fixed.reshape(-1)
    wanted = np.zeros(t * n)
    wanted[free] = np.linalg.solve(full[np.ix_(free, free)], gradient.reshape(-1)[free])
    found = solve(curvature, gradient, smooth, frames, fixed)
    np.testing.assert_allclose(found.reshape(-1), wanted, atol=1e-9)


def test_half_of_a_motion_at_the_cutoff_stays():
    t, fps, cutoff = 200, 25.0, 5.0
    frames = np.arange(t)
    wave = np.sin(2 * np.pi * cutoff / fps * frames)[:, None]
    curvature = np.full((t, 1, 1), 3.0)
    smooth = smoothing_weights(curvature, np.array([cutoff]), fps)
    fixed = np.zeros((t, 1), bool)
    found = solve(curvature, 3 * wave, smooth, frames, fixed)
    assert np.abs(found[50:150]).max() == pytest.approx(0.5 * np.abs(wave[50:150]).max(), rel=0.02)
    assert second_difference_gradient(found, frames).shape == (t, 1)
    assert smoothing_weights(curvature, np.array([13.0]), fps) == 0


def test_the_gaze_is_read_from_the_irises(model):
    true = replace(
        clip(model, t=6), eyes=np.radians([[0, 0], [10, 0], [-10, 0], [0, 8], [0, -8], [6, 4]])
    )
    turn, shift = Rotation.from_rotvec(true.rotation), true.translation
    points = np.zeros((6, 478, 3))
    shape, radius = model.shape(true.identity), 1.0
    for name, center, iris, ahead in zip(
        ("eye_left", "eye_right"),
        model.eye_centers,
        (473, 468),
        model.points.iris_shifts,
        strict=True,
    ):
        ball = model.vertices_of(name)
        radius = -(model.neutral[ball] - center)[:, 2].min()
        moved = (shape[ball] - model.neutral[ball]).mean(axis=0)
        yaw, pitch = true.eyes.T
        look = np.stack(
            [np.sin(yaw) * np.cos(pitch), -np.sin(pitch), -np.cos(yaw) * np.cos(pitch)], axis=1
        )
        points[:, iris] = true.camera.project(
            turn.apply(center + moved + ahead + radius * look) + shift
        )
    found = gaze_of(model, true.identity, Observations(points, true.camera), turn, shift)
    np.testing.assert_allclose(np.degrees(found), np.degrees(true.eyes), atol=0.6)


def test_lids_follow_the_eyes(model):
    axes = lids_of(model, np.radians([[15.0, 0.0], [0.0, -30.0]]))
    values = dict(zip(model.expression_names, axes.T, strict=True))
    np.testing.assert_allclose(values["eyeLookOutLeft"], [0.5, 0])
    np.testing.assert_allclose(values["eyeLookInRight"], [0.5, 0])
    np.testing.assert_allclose(values["eyeLookDownLeft"], [0, 1])
    assert values["eyeLookUpLeft"].max() == values["eyeLookInLeft"].max() == 0
