"""ARKit's 52 expression curves, head and eyes in time: from coefficients, and back to them.

Axes: t frames, c curves.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from mien.face.geometry import Array
from mien.face_model.coefficients import Camera, FaceCoefficients
from mien.face_model.parametric import FaceModel, with_sides
from mien.ops.interpolation import at_frames

# In the order of Live Link Face; both sides of a name stand together where `_SIDES` says so.
_SIDES = ("Left", "Right")


def _sided(*names: str) -> tuple[str, ...]:
    return tuple(f"{name}{side}" for name in names for side in _SIDES)


_EYE = ("Blink", "LookDown", "LookIn", "LookOut", "LookUp", "Squint", "Wide")
CURVES = (
    *(f"eye{name}Left" for name in _EYE),
    *(f"eye{name}Right" for name in _EYE),
    *("jawForward", "jawRight", "jawLeft", "jawOpen"),
    *("mouthClose", "mouthFunnel", "mouthPucker", "mouthRight", "mouthLeft"),
    *_sided("mouthSmile", "mouthFrown", "mouthDimple", "mouthStretch"),
    *("mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper"),
    *_sided("mouthPress", "mouthLowerDown", "mouthUpperUp"),
    *_sided("browDown"),
    "browInnerUp",
    *_sided("browOuterUp"),
    "cheekPuff",
    *_sided("cheekSquint", "noseSneer"),
    "tongueOut",
)
_ARKIT_AXES = np.diag([1.0, -1.0, -1.0])  # x alike, y up and z to the viewer instead
_FULL_GAZE = np.radians(30.0)  # at which an eyeLook curve is 1 (mien.face_model.gaze)


@dataclass(frozen=True)
class ArkitCurves:
    """Curves in [0, 1], in the order of `CURVES`; head and eyes as yaw, pitch and roll in radians
    about ARKit's axes (y up, x to the picture's right, z to the viewer): positive yaw turns to the
    picture's right, positive pitch down. Both eyes look alike.
    """

    values: Float[Array, "t 52"]
    head: Float[Array, "t 3"]
    eyes: Float[Array, "t 3"]
    fps: float

    def __len__(self) -> int:
        return len(self.values)

    def scaled(self, expression: float | None, pose: float | None) -> "ArkitCurves":
        """Curves and head turns times these; None: as they are."""
        values = self.values * (1.0 if expression is None else expression)
        return replace(self, values=values, head=self.head * (1.0 if pose is None else pose))

    def at_rate(self, fps: float | int) -> "ArkitCurves":
        """The same motion at another rate, linear between frames, from the first to the last."""
        count = int(np.floor((len(self) - 1) / self.fps * fps + 1e-6)) + 1
        time = np.arange(count) * self.fps / fps
        low = np.minimum(time.astype(int), len(self) - 1)
        high = np.minimum(low + 1, len(self) - 1)
        share = (time - low)[:, None]
        names = ("values", "head", "eyes")
        mixed = {n: _mix(getattr(self, n), low, high, share) for n in names}
        return replace(self, fps=float(fps), **mixed)


def curves_of(model: FaceModel, coefficients: FaceCoefficients) -> ArkitCurves:
    """The curves of a fit, lost frames filled in between their neighbours; tongueOut, which the
    model lacks, is 0. Axes that the model has left and right and ARKit once are averaged.

    Raises:
        UserError: the coefficients are of another face model.
    """
    model.refuse_other_coefficients(coefficients)
    values = np.zeros((len(coefficients), len(CURVES)))
    for n, name in enumerate(CURVES):
        own = model.axes_of(name)
        if own:
            values[:, n] = coefficients.expression[:, own].mean(axis=1)
    turn = Rotation.from_rotvec(coefficients.rotation).as_matrix()
    turn = Rotation.from_matrix(_ARKIT_AXES @ turn @ _ARKIT_AXES)
    head = np.unwrap(turn.as_euler("YXZ"), axis=0)
    eyes = np.zeros((len(coefficients), 3))
    eyes[:, 0], eyes[:, 1] = coefficients.eyes[:, 0], -coefficients.eyes[:, 1]
    moving = np.concatenate([np.clip(values, 0, 1), head, eyes], axis=1)
    frames = np.arange(coefficients.frames[0], coefficients.frames[-1] + 1)
    filled = at_frames(moving, coefficients.frames, frames)
    c = len(CURVES)
    return ArkitCurves(filled[:, :c], filled[:, c : c + 3], filled[:, c + 3 :], coefficients.fps)


def coefficients_of(
    model: FaceModel, curves: ArkitCurves, camera: Camera, depth: float
) -> FaceCoefficients:
    """Coefficients of the mean person who moves as the curves say, `depth` centimetres before the
    camera. The gaze is the eyes', or that of the eyeLook curves where these are all 0.
    """
    expression = np.zeros((len(curves), len(model.expression_names)))
    for n, name in enumerate(model.expression_names):
        own = [i for i, curve in enumerate(CURVES) if name in with_sides(curve)]
        if own:
            expression[:, n] = np.clip(curves.values[:, own[0]], *model.expression_range[n])
    turn = Rotation.from_euler("YXZ", curves.head).as_matrix()
    rotation = Rotation.from_matrix(_ARKIT_AXES @ turn @ _ARKIT_AXES).as_rotvec()
    eyes = np.stack([curves.eyes[:, 0], -curves.eyes[:, 1]], axis=1)
    return FaceCoefficients(
        identity=np.zeros(len(model.identity_axes)),
        expression=expression,
        rotation=rotation,
        translation=np.tile([0.0, 0.0, depth], (len(curves), 1)),
        eyes=eyes if eyes.any() else _gaze_of_curves(curves),
        scale=1.0,
        camera=camera,
        frames=np.arange(len(curves)),
        fps=curves.fps,
        expression_names=model.expression_names,
    )


def _gaze_of_curves(curves: ArkitCurves) -> Float[Array, "t 2"]:
    def look(way: str, side: str) -> Float[Array, " t"]:
        return curves.values[:, CURVES.index(f"eyeLook{way}{side}")]

    yaw = look("Out", "Left") + look("In", "Right") - look("In", "Left") - look("Out", "Right")
    pitch = sum(look("Up", side) - look("Down", side) for side in _SIDES)
    return np.stack([yaw, np.asarray(pitch)], axis=1) / 2 * _FULL_GAZE


def _mix(
    values: Float[Array, "t c"],
    low: Array,
    high: Array,
    share: Float[Array, "s one"],
) -> Float[Array, "s c"]:
    return (1 - share) * values[low] + share * values[high]
