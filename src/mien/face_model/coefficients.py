"""What a fitted face consists of: identity, expression, pose, gaze and the camera of a clip.

Camera coordinates: x to the picture's right, y down, z away from the camera, in centimetres.
Axes: t frames, i identity axes, e expression axes, n points.
"""

from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from mien.errors import UserError
from mien.face.geometry import Array
from mien.media.files import NPZ_ERRORS, writable, written_whole
from mien.paths import readable

_VERSION = 1


@dataclass(frozen=True)
class Camera:
    """A pinhole camera. `focal` is in longer sides of the picture, `center` (x, y) the principal
    point in shares of its width and height, `width` and `height` its pixels.
    """

    focal: float
    center: tuple[float, float]
    width: int
    height: int

    def project(self, points: Float[Array, "*n 3"]) -> Float[Array, "*n 3"]:
        """Camera coordinates to x, y in pixels and z, the depth in centimetres."""
        focal = self.focal * max(self.width, self.height)
        middle = np.array(self.center) * (self.width, self.height)
        depth = points[..., 2:]
        flat = points[..., :2] * (focal / depth) + middle
        return np.concatenate([flat, depth], axis=-1).astype(points.dtype)

    def rays(self, pixels: Float[Array, "*n 2"]) -> Float[Array, "*n 3"]:
        """Unit vectors from the camera through places of the picture."""
        focal = self.focal * max(self.width, self.height)
        flat = (pixels - np.array(self.center) * (self.width, self.height)) / focal
        rays = np.concatenate([flat, np.ones_like(flat[..., :1])], axis=-1)
        return rays / np.linalg.norm(rays, axis=-1, keepdims=True)


@dataclass(frozen=True)
class FaceCoefficients:
    """One person's face in t frames; frames without a face are left out.

    `identity` is in standard deviations of people, `expression` within the bounds of the model's
    axes, `rotation` an axis-angle vector from head to camera (radians), `translation` in camera
    coordinates (centimetres), `eyes` the gaze in the head: yaw (to the picture's right) and pitch
    (up), radians. `scale` is the size of the person's head over the model's (1 in
    fits of pictures, which only show size over distance), `frames` are the numbers of the frames in
    their clip, `fps` is the clip's rate. `expression_names` are those of the face model's axes;
    older files have none.
    """

    identity: Float[Array, " i"]
    expression: Float[Array, "t e"]
    rotation: Float[Array, "t 3"]
    translation: Float[Array, "t 3"]
    eyes: Float[Array, "t 2"]
    scale: float
    camera: Camera
    frames: Int[Array, " t"]
    fps: float
    expression_names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.frames)

    def with_identity_of(self, other: "FaceCoefficients") -> "FaceCoefficients":
        """The same motion made by another person: `other`'s identity and scale."""
        return replace(self, identity=other.identity, scale=other.scale)

    def at(self, rows: Int[Array, " n"] | slice) -> "FaceCoefficients":
        """The coefficients of some rows (not frame numbers) only."""
        names = ("expression", "rotation", "translation", "eyes", "frames")
        return replace(self, **{name: getattr(self, name)[rows] for name in names})

    def save(self, path: Path) -> None:
        """Write an .npz without pickled objects; the file appears only once it is whole.

        Raises:
            Unwritable: the file cannot be written.
        """
        camera = asdict(self.camera)
        own = {
            f.name: np.asarray(getattr(self, f.name)) for f in fields(self) if f.name != "camera"
        }
        seen = {f"camera_{name}": np.asarray(value) for name, value in camera.items()}
        with writable(path), written_whole(Path(path)) as unfinished, unfinished.open("wb") as file:
            np.savez(file, **{"version": np.asarray(_VERSION), **own, **seen})  # pyright: ignore[reportArgumentType]

    @classmethod
    def load(cls, path: Path) -> "FaceCoefficients":
        """Read what `save` wrote.

        Raises:
            UserError: the file is missing, damaged, of another version, or holds other arrays.
        """
        path = readable(path, "coefficients")
        try:
            with np.load(path, allow_pickle=False) as kept:
                arrays = {name: kept[name] for name in kept.files}
            found = cls._from_arrays(arrays)
        except NPZ_ERRORS as error:
            raise UserError(
                f"{path} is no readable file of face coefficients ({error}): "
                "make it again with mien fit-face"
            ) from error
        return found

    @classmethod
    def _from_arrays(cls, arrays: dict[str, Array]) -> "FaceCoefficients":
        if int(arrays["version"]) != _VERSION:
            raise ValueError(f"version {arrays['version']} instead of {_VERSION}")
        x, y = arrays["camera_center"].tolist()
        camera = Camera(
            float(arrays["camera_focal"]),
            (x, y),
            int(arrays["camera_width"]),
            int(arrays["camera_height"]),
        )
        t = len(arrays["frames"])
        shapes = {"expression": (t, -1), "rotation": (t, 3), "translation": (t, 3), "eyes": (t, 2)}
        moving = {name: arrays[name].reshape(shape) for name, shape in shapes.items()}
        for name in (*moving, "identity", "scale", "fps"):
            if not np.isfinite(arrays[name]).all():
                raise ValueError(f"{name} holds values that are not finite")
        names = tuple(arrays["expression_names"].tolist()) if "expression_names" in arrays else ()
        if names and len(names) != moving["expression"].shape[1]:
            raise ValueError(f"{len(names)} names of {moving['expression'].shape[1]} expressions")
        return cls(
            identity=arrays["identity"],
            **moving,
            scale=float(arrays["scale"]),
            camera=camera,
            frames=arrays["frames"].astype(np.int64),
            fps=float(arrays["fps"]),
            expression_names=names,
        )
