"""FaceMesh's points of a clip -> one identity, and expression, pose and gaze of every frame.

1. Each frame's pose starts from a similarity of the points that expressions move least.
2. The identity is solved together with pose and expression of some frames.
3. With it, pose and expression of all frames are solved at once: bounded, drawn to rest, and
   smooth in time without lag (`mien.face_model.solution`).
Expressions are drawn to rest, and those of SCORED to MediaPipe's blendshape scores, which follow
them better from pixels than points do; docs/experiments.md, "Fitting the face", has the figures.
Axes: t frames, m points, k scores, i identity axes, e expression axes, f fitted ones.
"""

from dataclasses import replace

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial.transform import Rotation

from mien.errors import UserError
from mien.face.blendshapes import SCORES
from mien.face.geometry import Array
from mien.face_model.coefficients import Camera, FaceCoefficients
from mien.face_model.correspondence import DEPTH
from mien.face_model.gaze import gaze_of, lids_of
from mien.face_model.parametric import FaceModel
from mien.face_model.point_basis import PointBasis
from mien.face_model.residuals import DEVIATION, Observations
from mien.face_model.solution import State, solve_motion, solve_person
from mien.mesh.alignment import similarity
from mien.mesh.topology import POINTS, STABLE

# Raised whenever tracking or fitting gives other coefficients of the same clip: caches of fits are
# named by it.
FIT_VERSION = 2
DISTANCE = 200.0  # centimetres from the camera at which a face is taken to be, if nobody says
_KEYFRAMES = 12
_SMALLEST = 0.05  # pixels to a centimetre: a face of one pixel
_FARTHEST = 100  # sides of the picture: points beyond are no face's
_PASSES = 2  # over all frames: poses give the gaze, which moves the lids
# Hz at which half of a motion stays, by the beginning of an expression's name: blinks last three
# frames, lips shut for two.
_CUTOFFS = {"eyeBlink": 25.0, "jaw": 11.0, "mouth": 11.0, "": 6.0}
# Standard deviation of expressions about what they are drawn to: large for those that points show
# well and faces use much. Lips and lids part by jaw and lids rather than by the axes that bare
# teeth, and what faces hardly use but fits FaceMesh's errors of depth and outline well is rare.
_SIGMAS = {
    **dict.fromkeys(("eyeBlink", "jawOpen", "mouthSmile", "mouthStretch", "mouthPucker"), 1.0),
    **dict.fromkeys(("mouthFunnel", "browInnerUp", "browOuterUp", "browDown"), 1.0),
    **dict.fromkeys(("mouthLowerDown", "mouthUpperUp", "mouthLeft", "mouthRight"), 0.25),
    **dict.fromkeys(("mouthShrugUpper", "mouthFrown", "eyeWide"), 0.2),
    **dict.fromkeys(("jawForward", "jawLeft", "jawRight", "cheekPuff", "noseSneer"), 0.1),
    "": 0.5,
}
SCORED = "mouthPucker", "mouthSmile", "mouthUpperUp"  # drawn to their scores


class NoFace(UserError):
    """No frame of a clip shows a face."""


def fit_points(
    points: Float[Array, "t m 3"],
    size: tuple[int, int],
    fps: float,
    model: FaceModel | None = None,
    basis: PointBasis | None = None,
    focal: float | None = None,
    identity: Float[Array, " i"] | None = None,
    scores: Float[Array, "t k"] | None = None,
    deviation: float = DEVIATION,
) -> FaceCoefficients:
    """Fit the model to the points of one person in a clip.

    `points` are the 468 of FaceMesh or MediaPipe's 478 with irises: x and y in pixels of a picture
    of `size` (width, height), depth in pixels, nan in frames without a face; those are left out.
    `focal` is the camera's in longer sides of the picture (default: that of a face two metres away,
    since the points hardly tell), `identity` that of a known person (default: it is fitted),
    `scores` are the blendshape net's for the same points (default: all expressions are drawn to
    rest), `deviation` that of points about the model's in centimetres (default: of what the nets
    find in pictures).
    `basis` is the model's for that many points, if it is already made.

    Raises:
        NoFace: there is no frame with a face.
        UserError: a frame's points are not finite or no face's, or
            the model has no FaceMesh points.
        ValueError: the scores are not those of the frames with a face.
    """
    model = FaceModel.load() if model is None else model
    basis = PointBasis.of(model, points.shape[1]) if basis is None else basis
    frames = _frames_with_face(points, max(size))
    if not len(frames):
        raise NoFace(f"none of {len(points)} frames shows a face: give a clip with one")
    seen = points[frames].astype(np.float64)
    observed, state = _start(model, basis, seen[:, :POINTS], frames, size, focal)
    observed = replace(observed, deviation=deviation)
    irises = Observations(seen, observed.camera)
    if scores is not None:
        if scores.shape != (len(points), len(SCORES)) or not np.isfinite(scores[frames]).all():
            raise ValueError(f"the scores {scores.shape} are not those of these points' faces")
        state = replace(state, expected=_scored(model, basis, scores[frames]))
    try:
        if identity is None:
            identity = _identity_of(model, basis, observed, irises, state)
        cutoffs = _by_name(model, basis, _CUTOFFS)
        for _ in range(_PASSES):
            state = _with_offsets(model, irises, state, identity)
            state = solve_motion(basis, observed, state, frames, fps, cutoffs)
    except np.linalg.LinAlgError as error:
        worst = int(state.misfits(basis, observed).argmax())
        raise UserError(
            f"the face model cannot be fitted ({error}), least to the points of frame "
            f"{frames[worst]}: cut the clip before or after it, or leave it out"
        ) from error
    eyes = gaze_of(model, identity, irises, state.rotation, state.translation)
    expression = lids_of(model, eyes)
    expression[:, basis.fitted] = state.expression
    return FaceCoefficients(
        identity=identity,
        expression=expression,
        rotation=state.rotation.as_rotvec(),
        translation=state.translation,
        eyes=eyes,
        scale=1.0,
        camera=observed.camera,
        frames=frames,
        fps=fps,
        expression_names=model.expression_names,
    )


def _frames_with_face(points: Float[Array, "t m 3"], side: int) -> Int[Array, " n"]:
    """The numbers of the frames with points near the picture; those of others must all be nan."""
    near = (np.abs(points) < _FARTHEST * side).all(axis=(1, 2))
    _refuse_frames(np.flatnonzero(~near & ~np.isnan(points).all(axis=(1, 2))))
    return np.flatnonzero(near)


def _refuse_frames(frames: Int[Array, " n"]) -> None:
    if len(frames):
        raise UserError(
            f"the points of frame {frames[0]} are not finite or not those of a face: leave that "
            "frame out"
        )


def _identity_of(
    model: FaceModel, basis: PointBasis, observed: Observations, irises: Observations, state: State
) -> Float[Array, " i"]:
    """The identity that fits some of the frames best; axes that points do not show are zero."""
    t = len(state.translation)
    rows = np.unique(np.linspace(0, t - 1, _KEYFRAMES).round().astype(int))
    identity = np.zeros(len(model.identity_axes))
    ready = _with_offsets(model, irises, state, identity).at(rows)
    found = solve_person(basis, replace(observed, points=observed.points[rows]), ready)
    identity[: len(state.identity)] = found.identity
    return identity


def _start(
    model: FaceModel,
    basis: PointBasis,
    points: Float[Array, "t m 3"],
    frames: Int[Array, " t"],
    size: tuple[int, int],
    focal: float | None,
) -> tuple[Observations, State]:
    """The camera, and poses of the neutral person from the points that expressions move least."""
    known = basis.neutral[list(STABLE)]
    poses = [similarity(seen[list(STABLE)] * DEPTH, known) for seen in points]
    scales = np.array([pose.scale for pose in poses])
    _refuse_frames(frames[~(scales > _SMALLEST)])
    if focal is None:
        focal = float(np.median(scales)) * DISTANCE / max(size)
    camera = Camera(focal, (0.5, 0.5), *size)
    depth = focal * max(size) / scales
    shift = np.stack([pose.shift[:2] for pose in poses]) - np.array(size) / 2
    translation = np.concatenate([shift / scales[:, None], depth[:, None]], axis=1)
    bounds = model.expression_range[basis.fitted].T.astype(np.float64)
    sigma = _by_name(model, basis, _SIGMAS)
    state = State(
        identity=np.zeros(len(basis.axes) - basis.expressions),
        expression=np.zeros((len(points), basis.expressions)),
        rotation=Rotation.from_matrix(np.stack([pose.rotation for pose in poses])),
        translation=translation,
        offsets=np.zeros_like(points),
        bounds=bounds,
        expected=np.zeros((len(points), basis.expressions)),
        sigma=np.where(bounds[0] < 0, 1.0, sigma),  # axes of both signs are in deviations
    )
    return Observations(points, camera), state


def _by_name(model: FaceModel, basis: PointBasis, values: dict[str, float]) -> Float[Array, " f"]:
    """For each fitted expression the value of the first key that its name begins with."""
    names = [model.expression_names[n] for n in basis.fitted]
    return np.array([next(v for key, v in values.items() if n.startswith(key)) for n in names])


def _scored(
    model: FaceModel, basis: PointBasis, scores: Float[Array, "t k"]
) -> Float[Array, "t f"]:
    """The scores of the axes of SCORED, 0 for all others and where no score bears their name."""
    expected = np.zeros((len(scores), basis.expressions))
    for axis, number in enumerate(basis.fitted):
        name = model.expression_names[number]
        if name in SCORES and name.startswith(SCORED):
            expected[:, axis] = scores[:, SCORES.index(name)]
    return expected


def _with_offsets(
    model: FaceModel, irises: Observations, state: State, identity: Float[Array, " i"]
) -> State:
    """The state for a known person, whose lids go with the gaze."""
    if model.points is None:
        return state
    eyes = gaze_of(model, identity, irises, state.rotation, state.translation)
    axes = model.points.read(model.expression_axes).astype(np.float64)
    lids = lids_of(model, eyes) @ axes.reshape(len(axes), -1)
    person = model.points.read(model.shape(identity) - model.neutral)
    return replace(state, offsets=lids.reshape(state.offsets.shape) + person)
