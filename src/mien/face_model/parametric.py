"""The parametric face: identity, expression, pose and gaze -> vertices of a fixed topology.

The model is linear: a person's neutral shape is the mean plus identity axes, and an expression adds
the same offsets to everybody. The eyeballs turn about their centres. Jaw and lids are expression
axes. Model axes are those of a camera that a head at rest faces: x to the picture's right (the
person's left), y down, z away from the viewer, in centimetres.
Axes: t frames, n vertices, k triangles, i identity axes, e expression axes, m landmarks.
"""

import functools
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32, Int, Int8, Int16, UInt8

from mien.errors import UserError
from mien.face.geometry import Array
from mien.face_model.coefficients import FaceCoefficients
from mien.face_model.correspondence import Correspondence
from mien.media.files import NPZ_ERRORS, writable, written_whole
from mien.paths import readable

FACE_MODEL = Path(__file__).parents[1] / "assets" / "face_model.npz"
# Standard deviation (centimetres, about zero) of a coordinate of expression offsets over the skin
# of the face in fitted real footage (tools/measure_offsets.py): of 37 clips, by the first fit. By
# the present one it is 0.122, over the 308 filmed clips that the shipped weights are trained with
# (weights/MODEL_CARD.md). Weights are bound to it. Loki's authors have .0104 for theirs.
OFFSET_DEVIATION = 0.124
_DIGITS = 16  # of a fingerprint
# Regions that the eyes' rotation moves, in the order of `eye_centers`.
EYES = ("eye_left", "eye_right")


@dataclass(frozen=True)
class FaceModel:
    """A face model in memory.

    `region` holds for every vertex a number into `region_names`; expressions are bounded by
    `expression_range` (low, high), identities are in standard deviations; `eye_centers` are the
    centres of the neutral person's left and right eyeball. `points` are FaceMesh's points on the
    surface, None if the file has none (then nothing can be fitted).
    """

    neutral: Float32[Array, "n 3"]
    triangles: Int[Array, "k 3"]
    region: UInt8[Array, " n"]
    region_names: tuple[str, ...]
    identity_axes: Float32[Array, "i n 3"]
    expression_names: tuple[str, ...]
    expression_axes: Float32[Array, "e n 3"]
    expression_range: Float32[Array, "e 2"]
    eye_centers: Float32[Array, "2 3"]
    points: Correspondence | None

    @classmethod
    def load(cls, path: Path | None = None) -> "FaceModel":
        """The model of a file written by `save`; None: the one that the package carries.

        Raises:
            UserError: the file is missing or damaged, or holds something else.
        """
        return _loaded(FACE_MODEL if path is None else readable(Path(path), "face model"))

    def save(self, path: Path) -> None:
        """Write the model with 8 bits for identity and 16 for expression axes, each axis by its
        own step, so that no coordinate errs by more than half a step.

        Raises:
            Unwritable: the file cannot be written.
        """
        identity, identity_steps = _quantized(self.identity_axes, np.int8)
        expression, expression_steps = _quantized(self.expression_axes, np.int16)
        points = (
            {} if self.points is None else {f"point_{k}": v for k, v in vars(self.points).items()}
        )
        with writable(path), written_whole(Path(path)) as unfinished, unfinished.open("wb") as file:
            np.savez_compressed(
                file,
                neutral=self.neutral,
                triangles=self.triangles.astype(np.uint16 if len(self.neutral) < 65536 else int),
                region=self.region,
                region_names=np.array(self.region_names),
                identity=identity,
                identity_steps=identity_steps,
                expression_names=np.array(self.expression_names),
                expression=expression,
                expression_steps=expression_steps,
                expression_range=self.expression_range,
                eye_centers=self.eye_centers,
                **points,
            )

    def shape(self, identity: Float[Array, " i"]) -> Float32[Array, "n 3"]:
        """The neutral shape of a person; axes that are not given are zero.

        Raises:
            UserError: the identity has more axes than the model.
        """
        flat = self.identity_axes.reshape(len(self.identity_axes), -1)
        if len(identity) > len(flat):
            raise UserError(
                f"an identity of {len(identity)} axes does not fit a face model of {len(flat)}: "
                "give the model that it was fitted with"
            )
        moved = identity.astype(np.float32) @ flat[: len(identity)]
        return self.neutral + moved.reshape(-1, 3)

    def offsets(
        self, expression: Float[Array, "t e"], eyes: Float[Array, "t 2"]
    ) -> Float32[Array, "t n 3"]:
        """What expression and gaze add to every vertex, whoever the person is (model axes, cm)."""
        flat = self.expression_axes.reshape(len(self.expression_axes), -1)
        moved = (expression.astype(np.float32) @ flat).reshape(len(expression), -1, 3)
        turn = (gaze_rotation(eyes) - np.eye(3)).astype(np.float32)
        for name, center in zip(EYES, self.eye_centers, strict=True):
            ball = self.vertices_of(name)
            arms = self.neutral[ball] - center
            moved[:, ball] += np.einsum("txy,ny->tnx", turn, arms)
        return moved

    def refuse_other_coefficients(
        self, coefficients: FaceCoefficients, name: str = "the coefficients"
    ) -> None:
        """Check that coefficients are of this model's expression axes; `name` is for messages.

        Raises:
            UserError: they were fitted with another face model.
        """
        names, count = coefficients.expression_names, coefficients.expression.shape[1]
        if count != len(self.expression_names) or names not in ((), self.expression_names):
            own = self.expression_names
            theirs = f"{count} expressions" + (f" ({names[0]} ... {names[-1]})" if names else "")
            raise UserError(
                f"{name} have {theirs}, this face model has {len(own)} others ({own[0]} ... "
                f"{own[-1]}): give the model that they were fitted with, or fit again"
            )

    def in_camera(self, coefficients: FaceCoefficients) -> Float32[Array, "t n 3"]:
        """The vertices of every frame in camera coordinates (centimetres).

        Raises:
            UserError: the coefficients are of another face model.
        """
        self.refuse_other_coefficients(coefficients)
        face = self.shape(coefficients.identity)
        face = face + self.offsets(coefficients.expression, coefficients.eyes)
        turn = rotation_matrices(coefficients.rotation.reshape(-1, 3))
        turn = (coefficients.scale * turn).astype(np.float32)
        shift = coefficients.translation.astype(np.float32)[:, None]
        return face @ turn.transpose(0, 2, 1) + shift

    def project(self, coefficients: FaceCoefficients) -> Float32[Array, "t n 3"]:
        """x and y in pixels of the clip's picture, z the depth in centimetres.

        Raises:
            UserError: the coefficients are of another face model.
        """
        return coefficients.camera.project(self.in_camera(coefficients))

    def vertices_of(self, name: str) -> Int[Array, " n"]:
        """The numbers of a region's vertices."""
        return np.flatnonzero(self.region == self.region_names.index(name))

    def axes_of(self, name: str) -> list[int]:
        """The numbers of the expression axes of a name: of both sides, or one."""
        sides = with_sides(name)
        return [n for n, axis in enumerate(self.expression_names) if axis in sides]


def with_sides(name: str) -> tuple[str, str, str]:
    """ARKit's name of an expression, alone and with each side."""
    return (name, f"{name}Left", f"{name}Right")


def face_model_fingerprint() -> str:
    """A hash that changes with the face model that the package carries."""
    return _fingerprint_of(FACE_MODEL)


def gaze_rotation(eyes: Float[Array, "t 2"]) -> Float[Array, "t 3 3"]:
    """How the eyeballs turn in the head for a gaze of yaw (picture's right) and pitch (up)."""
    from scipy.spatial.transform import Rotation  # late: inference of speech needs no scipy

    return Rotation.from_euler("YX", -eyes).as_matrix()


def rotation_matrices(rotation: Float[Array, "t 3"]) -> Float[Array, "t 3 3"]:
    """The matrices of rotation vectors."""
    from scipy.spatial.transform import Rotation  # as above

    return Rotation.from_rotvec(rotation).as_matrix()


@functools.cache
def _fingerprint_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:_DIGITS]


@functools.lru_cache(maxsize=4)
def _loaded(path: Path) -> FaceModel:
    try:
        with np.load(path, allow_pickle=False) as kept:
            found = FaceModel(
                neutral=kept["neutral"].astype(np.float32),
                triangles=kept["triangles"].astype(np.int32),
                region=kept["region"],
                region_names=tuple(kept["region_names"].tolist()),
                identity_axes=_restored(kept["identity"], kept["identity_steps"]),
                expression_names=tuple(kept["expression_names"].tolist()),
                expression_axes=_restored(kept["expression"], kept["expression_steps"]),
                expression_range=kept["expression_range"].astype(np.float32),
                eye_centers=kept["eye_centers"].astype(np.float32),
                points=_points(kept),
            )
    except NPZ_ERRORS as error:
        raise UserError(
            f"{path} is no face model ({error}): give a file of tools/make_face_model.py "
            "or tools/convert_flame.py"
        ) from error
    return found


def _points(kept: Mapping[str, Array]) -> Correspondence | None:
    if "point_corners" not in kept:
        return None
    return Correspondence(**{f.name: kept[f"point_{f.name}"] for f in fields(Correspondence)})


def _quantized(
    axes: Float32[Array, "a n 3"], kind: type[np.int8] | type[np.int16]
) -> tuple[Int8[Array, "a n 3"] | Int16[Array, "a n 3"], Float32[Array, " a"]]:
    largest = np.maximum(np.abs(axes).max(axis=(1, 2), initial=0), 1e-6)
    steps = (largest / np.iinfo(kind).max).astype(np.float32)
    return np.rint(axes / steps[:, None, None]).astype(kind), steps


def _restored(
    whole: Int8[Array, "a n 3"] | Int16[Array, "a n 3"], steps: Float32[Array, " a"]
) -> Float32[Array, "a n 3"]:
    return whole * steps[:, None, None]
