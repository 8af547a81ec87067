"""The two solves of a fit: the person from some frames, and the motion of all frames.

Axes: t frames, m points, i identity axes, f fitted expression axes, n unknowns of a frame.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.spatial.transform import Rotation

from mien.face.geometry import Array
from mien.face_model.point_basis import PointBasis
from mien.face_model.residuals import POSE, Equations, Observations, equations
from mien.face_model.smooth_solve import second_difference_gradient, smoothing_weights, solve

_PERSON_ROUNDS, _MOTION_ROUNDS = 4, 2
_INDEPENDENT = 4.0  # frames' worth of evidence in all keyframes: their errors are alike
_BOUND_ROUNDS = 4  # of finding out which values a step takes to their bounds
_BOUND = 1e-6  # how near to a bound a value counts as on it
_CHUNK, _OVERLAP = 500, 50  # frames that are solved at once, and how many of them both have
_POSE_CUTOFF = 5.0  # Hz at which half of a head's motion stays


@dataclass(frozen=True)
class State:
    """Current values of a fit; `offsets` are those of the points that are not fitted, `bounds` the
    lowest and highest value of each fitted expression, `expected` what it is drawn to and `sigma`
    its deviation from that.
    """

    identity: Float[Array, " i"]
    expression: Float[Array, "t f"]
    rotation: Rotation
    translation: Float[Array, "t 3"]
    offsets: Float[Array, "t m 3"]
    bounds: Float[Array, "2 f"]
    expected: Float[Array, "t f"]
    sigma: Float[Array, " f"]

    def heads(self, basis: PointBasis) -> Float[Array, "t m 3"]:
        """The points in model axes."""
        person = basis.neutral + basis.shape(self.identity, basis.expressions)
        return person + basis.shape(self.expression) + self.offsets

    def equations(self, basis: PointBasis, observed: Observations, count: int) -> Equations:
        """Those of pose and of the first `count` axes about the current values."""
        heads = self.heads(basis)
        return equations(basis, observed, heads, self.rotation, self.translation, count)

    def misfits(self, basis: PointBasis, observed: Observations) -> Float[Array, " t"]:
        """How far the points of each frame are from the model's, in centimetres."""
        turn = self.rotation.as_matrix().transpose(0, 2, 1)
        placed = self.heads(basis) @ turn + self.translation[:, None]
        return np.abs(observed.residuals(basis, placed, self.translation)).mean(axis=(1, 2))

    def moved(self, step: Float[Array, "t n"]) -> "State":
        """After a step of pose and expression, within the bounds."""
        return replace(
            self,
            rotation=Rotation.from_rotvec(step[:, :3]) * self.rotation,
            translation=self.translation + step[:, 3:POSE],
            expression=np.clip(self.expression + step[:, POSE:], *self.bounds),
        )

    def bounded(self, step: Float[Array, "t n"]) -> Float[Array, "t n"]:
        """The step, no farther than to the bounds."""
        low, high = self.bounds
        inside = np.clip(step[:, POSE:], low - self.expression, high - self.expression)
        return np.concatenate([step[:, :POSE], inside], axis=1)

    def outside(self, step: Float[Array, "t n"]) -> Bool[Array, "t n"]:
        """Values that the step takes beyond a bound."""
        return np.abs(step - self.bounded(step)) > _BOUND

    def at(self, rows: Int[Array, " n"] | slice) -> "State":
        """Some frames only."""
        return replace(
            self,
            expression=self.expression[rows],
            rotation=Rotation.from_quat(self.rotation.as_quat()[rows]),
            translation=self.translation[rows],
            offsets=self.offsets[rows],
            expected=self.expected[rows],
        )

    def active_bounds(self, gradient: Float[Array, "t n"]) -> Bool[Array, "t n"]:
        """Values at a bound that a step downhill would leave; poses have none."""
        low, high = self.bounds
        wanted = gradient[:, POSE:]
        out = (self.expression <= low + _BOUND) & (wanted < 0)
        out |= (self.expression >= high - _BOUND) & (wanted > 0)
        return np.concatenate([np.zeros((len(out), POSE), bool), out], axis=1)


def solve_person(basis: PointBasis, observed: Observations, state: State) -> State:
    """The state with the identity that fits all of its frames best, each with its own expression
    and pose. Identity is drawn to zero, expressions to what is expected.
    """
    for _ in range(_PERSON_ROUNDS):
        state = _person_step(basis, observed, state)
    return state


def _person_step(basis: PointBasis, observed: Observations, state: State) -> State:
    n = POSE + basis.expressions
    prior = max(len(state.translation) / _INDEPENDENT, 1.0)
    found = state.equations(basis, observed, len(basis.axes))
    own = found.curvature[:, :n, :n] + np.diag(_prior_curvature(state))
    shared = found.curvature[:, :n, n:]
    people = found.curvature[:, n:, n:].sum(axis=0) + prior * np.eye(len(state.identity))
    gradient = found.gradient[:, :n] - _prior_pull(state)
    wanted = found.gradient[:, n:].sum(axis=0) - prior * state.identity
    person = np.zeros_like(wanted)

    def more(step: Float[Array, "t n"], fixed: Bool[Array, "t n"]) -> Float[Array, "t n"]:
        nonlocal person
        rest = gradient - np.einsum("tab,tb->ta", own, step) - shared @ person
        left = wanted - people @ person - np.einsum("tna,tn->a", shared, step)
        moved, by = _eliminated(own, shared, people, rest, left, ~fixed)
        person = person + by
        return moved

    state = _bounded_step(state, gradient, more)
    return replace(state, identity=state.identity + person)


def _bounded_step(
    state: State,
    gradient: Float[Array, "t n"],
    more: Callable[[Float[Array, "t n"], Bool[Array, "t n"]], Float[Array, "t n"]],
) -> State:
    """The state after a step within its bounds: `more(step, fixed)` adds to a step without moving
    fixed values, which are those that went to their bound.
    """
    fixed, step = state.active_bounds(gradient), np.zeros_like(gradient)
    for _ in range(_BOUND_ROUNDS):
        step = step + more(step, fixed)
        out = state.outside(step)
        step, fixed = state.bounded(step), fixed | out
        if not out.any():
            break
    return state.moved(step)


def _eliminated(
    own: Float[Array, "t n n"],
    shared: Float[Array, "t n i"],
    people: Float[Array, "i i"],
    gradient: Float[Array, "t n"],
    wanted: Float[Array, " i"],
    free: Bool[Array, "t n"],
) -> tuple[Float[Array, "t n"], Float[Array, " i"]]:
    """The steps of the free values of every frame and of the identity that all frames share."""
    own = own * (free[:, :, None] & free[:, None]) + np.eye(own.shape[1]) * ~free[:, :, None]
    gradient, shared = gradient * free, shared * free[:, :, None]
    solved = np.linalg.solve(own, np.concatenate([shared, gradient[..., None]], axis=2))
    people = people - np.einsum("tna,tnb->ab", shared, solved[..., :-1], optimize=True)
    step = np.linalg.solve(people, wanted - np.einsum("tna,tn->a", shared, solved[..., -1]))
    return solved[..., -1] - solved[..., :-1] @ step, step


def solve_motion(
    basis: PointBasis,
    observed: Observations,
    state: State,
    frames: Int[Array, " t"],
    fps: float,
    cutoffs: Float[Array, " f"],
) -> State:
    """The state with pose and expression of all frames; `cutoffs` are the frequencies (Hz) at
    which half of an expression's motion stays.
    """
    cutoff = np.concatenate([np.full(POSE, _POSE_CUTOFF), cutoffs])
    parts = []
    for first, last, keep in _chunks(len(frames)):
        rows = slice(first, last)
        part = replace(observed, points=observed.points[rows])
        solved = _solve_together(basis, part, state.at(rows), frames[rows], cutoff, fps)
        parts.append(solved.at(keep))
    return replace(
        state,
        expression=np.concatenate([part.expression for part in parts]),
        rotation=Rotation.concatenate([part.rotation for part in parts]),
        translation=np.concatenate([part.translation for part in parts]),
    )


def _solve_together(
    basis: PointBasis,
    observed: Observations,
    state: State,
    frames: Int[Array, " t"],
    cutoff: Float[Array, " n"],
    fps: float,
) -> State:
    smooth = None
    for _ in range(_MOTION_ROUNDS):
        found = state.equations(basis, observed, basis.expressions)
        if smooth is None:
            whole = found.curvature + np.diag(_prior_curvature(state))
            smooth = smoothing_weights(whole, cutoff, fps)
        state = _motion_step(state, found, frames, smooth)
    return state


def _motion_step(
    state: State, found: Equations, frames: Int[Array, " t"], smooth: Float[Array, " n"]
) -> State:
    roughness = smooth * second_difference_gradient(_values(state), frames)
    gradient = found.gradient - _prior_pull(state) - roughness
    curvature = found.curvature + np.diag(_prior_curvature(state))

    def more(step: Float[Array, "t n"], fixed: Bool[Array, "t n"]) -> Float[Array, "t n"]:
        taken = np.einsum("tab,tb->ta", curvature, step)
        taken += smooth * second_difference_gradient(step, frames)
        return solve(curvature, gradient - taken, smooth, frames, fixed)

    return _bounded_step(state, gradient, more)


def _values(state: State) -> Float[Array, "t n"]:
    """Pose and expression as numbers whose differences in time are small."""
    turn = (state.rotation * state.rotation.mean().inv()).as_rotvec()
    return np.concatenate([turn, state.translation, state.expression], axis=1)


def _prior_pull(state: State) -> Float[Array, "t n"]:
    pull = (state.expression - state.expected) / state.sigma**2
    return np.concatenate([np.zeros((len(pull), POSE)), pull], axis=1)


def _prior_curvature(state: State) -> Float[Array, " n"]:
    return np.concatenate([np.full(POSE, 1e-9), 1 / state.sigma**2])


def _chunks(t: int) -> list[tuple[int, int, slice]]:
    """First and last row of each chunk, and which of its rows count."""
    if t <= _CHUNK:
        return [(0, t, slice(0, t))]
    parts = int(np.ceil((t - _OVERLAP) / (_CHUNK - _OVERLAP)))
    edges = np.linspace(0, t, parts + 1).round().astype(int).tolist()
    half = _OVERLAP // 2
    found = []
    for low, high in zip(edges, edges[1:], strict=False):
        first, last = max(0, low - half), min(t, high + half)
        found.append((first, last, slice(low - first, high - first)))
    return found
