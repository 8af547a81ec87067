"""Cross-identity: the portrait's shape with the driver's expression and pose (paper: coefficient
substitution), before the portrait's camera, and the controls that coefficients allow.

Axes: t frames of the driver.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from mien.config import refuse_negative
from mien.errors import UserError
from mien.face.geometry import Array
from mien.face_model.coefficients import Camera, FaceCoefficients
from mien.face_model.parametric import FaceModel
from mien.ops.interpolation import at_frames
from mien.types import Transfer

_BLINK = "eyeBlink"


@dataclass(frozen=True)
class LokiControls:
    """How the driver's motion is changed.

    Args:
        expression_scale: factor of all expressions; 1: as the driver's.
        pose_scale: factor of the head's motion away from its usual pose.
        freeze_pose: hold the portrait's own pose.
        blinks: how far the eyes are shut in each frame (0 to 1; the last value holds), instead of
            the driver's blinks; None: the driver's.
    """

    expression_scale: float = 1.0
    pose_scale: float = 1.0
    freeze_pose: bool = False
    blinks: Float[Array, " n"] | None = None

    def __post_init__(self) -> None:
        refuse_negative(expression_scale=self.expression_scale, pose_scale=self.pose_scale)


def drive_faces(
    model: FaceModel,
    portrait: FaceCoefficients,
    driver: FaceCoefficients,
    transfer: Transfer,
    controls: LokiControls | None = None,
) -> FaceCoefficients:
    """The portrait's person moving as the driver does; `portrait` has one row.

    Expressions and gaze are the driver's: the face model's axes have the same rest for everybody.
    `relative`: the head moves from the portrait's pose by the driver's difference, in rotation and
    place, from the frame of its usual rotation (`usual_pose`), so that turns stay small;
    `absolute`: it has the driver's rotation and place in the picture, as the authors do;
    `same_person`: identity and camera are the driver's as well, portrait and driver being framed
    alike.

    Raises:
        UserError: the coefficients are of another face model.
    """
    model.refuse_other_coefficients(portrait, "the portrait's coefficients")
    model.refuse_other_coefficients(driver, "the driver's coefficients")
    controls = controls or LokiControls()
    person = driver if transfer == "same_person" else portrait
    moving = _seen_by(driver, person.camera)
    row = usual_pose(driver)
    base = portrait if transfer == "relative" else moving.at(slice(row, row + 1))
    rotation, translation = _moved(base, moving, row, controls.pose_scale)
    if controls.freeze_pose:
        still = _seen_by(portrait, person.camera)
        rotation = np.repeat(still.rotation, len(driver), axis=0)
        translation = np.repeat(still.translation, len(driver), axis=0)
    low, high = model.expression_range.T
    expression = controls.expression_scale * driver.expression
    if controls.blinks is not None:
        shut = controls.blinks[np.minimum(driver.frames, len(controls.blinks) - 1)]
        for index, name in enumerate(model.expression_names):
            if name.startswith(_BLINK):
                expression[:, index] = shut
    return replace(
        driver.with_identity_of(person),
        camera=person.camera,
        expression=np.clip(expression, low, high),
        rotation=rotation,
        translation=translation,
    )


def usual_pose(faces: FaceCoefficients) -> int:
    """The row whose rotation is nearest to the mean of all."""
    turns = Rotation.from_rotvec(faces.rotation)
    return int((turns * turns.mean().inv()).magnitude().argmin())


def fill_frames(faces: FaceCoefficients, count: int) -> FaceCoefficients:
    """Coefficients of all `count` frames, interpolated where no face was found."""
    every = np.arange(count)
    names = "expression", "rotation", "translation", "eyes"
    filled = {name: at_frames(getattr(faces, name), faces.frames, every) for name in names}
    return replace(faces, **filled, frames=every)


def read_blinks(path: Path) -> Float[Array, " n"]:
    """A curve of blinks from a text file: one number from 0 (open) to 1 (shut) a line and frame.

    Raises:
        UserError: the file is missing, or has a line that is no such number.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no text"
        raise UserError(f"cannot read the blinks {path}: {reason}") from error
    wanted = f"the blinks {path} must be numbers from 0 to 1, one per line"
    curve = []
    for number, line in enumerate(text.rstrip().splitlines(), start=1):
        try:
            curve.append(float(line))
        except ValueError as error:
            raise UserError(f"{wanted}, not {line!r} as in line {number}") from error
        if not 0 <= curve[-1] <= 1:
            raise UserError(f"{wanted}, not {line} as in line {number}")
    if not curve:
        raise UserError(f"{wanted}: the file is empty")
    return np.array(curve)


def _seen_by(faces: FaceCoefficients, camera: Camera) -> FaceCoefficients:
    """The faces at the same places and sizes in the picture of a camera of another focal length."""
    x, y, z = faces.translation.T
    longer = camera.focal / faces.camera.focal
    shift = np.array(faces.camera.center) - camera.center
    depth = z * longer
    x = x + shift[0] * depth / camera.focal
    y = y + shift[1] * depth / camera.focal
    return replace(faces, translation=np.stack((x, y, depth), axis=1), camera=camera)


def _moved(
    base: FaceCoefficients, moving: FaceCoefficients, row: int, scale: float
) -> tuple[Float[Array, "t 3"], Float[Array, "t 3"]]:
    """Rotation and translation of `base` moved by how `moving` differs from one row of its own."""
    turns = Rotation.from_rotvec(moving.rotation)
    away = Rotation.from_rotvec(scale * (turns * turns[row].inv()).as_rotvec())
    rotation = (away * Rotation.from_rotvec(base.rotation[0])).as_rotvec()
    shift = moving.translation - moving.translation[row]
    nearer = base.translation[0, 2] / moving.translation[row, 2]  # the same way in the picture
    return rotation, base.translation[0] + scale * nearer * shift
