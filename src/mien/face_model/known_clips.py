"""Clips of made-up people whose coefficients are known: what fits are tested on.

Axes: t frames, i identity axes, c curves.
"""

from dataclasses import replace

import numpy as np
from jaxtyping import Float

from mien.face.geometry import Array
from mien.face_model.coefficients import Camera, FaceCoefficients
from mien.face_model.correspondence import DEPTH
from mien.face_model.gaze import eyeballs, lids_of
from mien.face_model.parametric import FaceModel, gaze_rotation, rotation_matrices
from mien.face_model.points import points_of
from mien.face_model.tracking import LANDMARKS
from mien.types import FPS

CAMERA = Camera(focal=2.6, center=(0.5, 0.5), width=384, height=384)
DISTANCE = 100.0  # centimetres from the camera
_MOUTH = (
    *("mouthFunnel", "mouthPucker", "mouthSmile", "mouthStretch", "mouthUpperUp", "mouthFrown"),
    *("mouthLowerDown", "mouthPress", "mouthRollLower", "mouthShrugLower", "mouthDimple"),
)
_UPPER = ("browInnerUp", "browOuterUp", "browDown", "cheekSquint", "eyeSquint", "noseSneer")
_MOUTH_COUNT, _UPPER_COUNT = 5, 3  # axes that move in a clip
_STRENGTH = 0.7  # largest value of these
_BLINK = np.array([0.3, 0.8, 1.0, 0.9, 0.6, 0.3, 0.1])  # frame by frame
_BLINK_EVERY = 24  # frames
_PEAK = 0.8  # of an axis that moves alone
_TURN, _GAZE, _SWAY = np.radians([8.0, 15.0, 6.0]), np.radians([8.0, 5.0]), 1.5  # cm
_IRIS = 0.585  # centimetres: radius


def smooth_curves(
    random: np.random.Generator, t: int, count: int, fastest: float
) -> Float[Array, "t c"]:
    """Smooth random curves in [-1, 1], of at most one radian in `fastest` frames."""
    time = np.arange(t)[:, None, None] / fastest
    speeds = random.uniform(0.3, 1, (count, 3))
    phases = random.uniform(0, 2 * np.pi, (count, 3))
    return np.sin(time * speeds + phases).mean(axis=2)


def at_rest(model: FaceModel, t: int, identity: Float[Array, " i"]) -> FaceCoefficients:
    """A person who looks straight into the camera and does nothing, for t frames."""
    return FaceCoefficients(
        identity=identity,
        expression=np.zeros((t, len(model.expression_names))),
        rotation=np.zeros((t, 3)),
        translation=np.tile([0.0, 0.0, DISTANCE], (t, 1)),
        eyes=np.zeros((t, 2)),
        scale=1.0,
        camera=CAMERA,
        frames=np.arange(t),
        fps=float(FPS),
        expression_names=model.expression_names,
    )


def speaking(model: FaceModel, t: int, seed: int) -> FaceCoefficients:
    """A random person who speaks, blinks, looks around and turns the head by up to 15 degrees."""
    random = np.random.default_rng(seed)
    rest = at_rest(model, t, random.normal(size=len(model.identity_axes)))
    mouth = random.choice(_MOUTH, _MOUTH_COUNT, replace=False)
    names = ("jawOpen", *mouth, *random.choice(_UPPER, _UPPER_COUNT, replace=False))
    values = _STRENGTH * np.clip(smooth_curves(random, t, len(names), 4.0) + 0.3, 0, 1)
    for name, value in zip(names, values.T, strict=True):
        rest.expression[:, model.axes_of(name)] = value[:, None]
    for start in range(int(random.integers(4, 12)), t - len(_BLINK), _BLINK_EVERY):
        lids = model.axes_of("eyeBlink")
        rest.expression[start : start + len(_BLINK), lids] = _BLINK[:, None]
    eyes = _GAZE * smooth_curves(random, t, 2, 8.0)
    return replace(
        rest,
        expression=rest.expression + lids_of(model, eyes),
        rotation=_TURN * smooth_curves(random, t, 3, 12.0),
        translation=rest.translation + _SWAY * smooth_curves(random, t, 3, 12.0),
        eyes=eyes,
    )


def driven(
    model: FaceModel, name: str, identity: Float[Array, " i"], t: int = 17
) -> FaceCoefficients:
    """A person at rest but for one axis, left and right alike, which goes from 0 to 0.8 and back;
    mouthClose with as much of jawOpen, which it undoes at the lips.
    """
    rest = at_rest(model, t, identity)
    names = (name, "jawOpen") if name == "mouthClose" else (name,)
    columns = [n for moved in names for n in model.axes_of(moved)]
    rest.expression[:, columns] = _PEAK * np.sin(np.linspace(0, np.pi, t))[:, None]
    return rest


def projected_points(model: FaceModel, coefficients: FaceCoefficients) -> Float[Array, "t 478 3"]:
    """All points of MediaPipe's landmarker where the fit's own point model has them: those of
    `points_of`, and irises (the middle and four points of the edge).

    Raises:
        UserError: the model's file does not say where they are.
    """
    points = points_of(model, coefficients, LANDMARKS)
    assert model.points is not None
    turn = rotation_matrices(coefficients.rotation) * coefficients.scale
    look = gaze_rotation(coefficients.eyes)
    edge = _IRIS * np.array([[0, 0, 0], [1, 0, 0], [0, -1, 0], [-1, 0, 0], [0, 1, 0]])
    irises = []
    balls = zip(eyeballs(model, coefficients.identity), model.points.iris_shifts, strict=True)
    for (middle, radius), shift in reversed(list(balls)):  # the right iris comes first
        turned = (edge - (0, 0, radius)) @ look.transpose(0, 2, 1)
        irises.append(turned + middle + shift)
    placed = np.concatenate(irises, axis=1) @ turn.transpose(0, 2, 1)
    camera, depth = coefficients.camera, coefficients.translation[:, None, 2:]
    flat = camera.project(placed + coefficients.translation[:, None])[..., :2]
    scale = camera.focal * max(camera.width, camera.height) / depth / DEPTH[2]
    return np.concatenate([points, np.concatenate([flat, placed[..., 2:] * scale], axis=2)], axis=1)
