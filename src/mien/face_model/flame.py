"""FLAME's archive (Li et al. 2017; the 2023 release) as mien's FaceModel.

The archive is a pickle of numpy, scipy and chumpy arrays. It is read by an unpickler that knows
these and nothing else, so that no code in it can run. FLAME may not be redistributed: whoever has
it converts their own copy. Shape and expression axes become identity and expression axes in
standard deviations; the jaw's joint becomes three linear axes (jawOpen, jawLeft, jawRight), each
the skinned mesh at its full angle; eyeballs turn about their joints; the neck stays.
Axes: n vertices, k triangles, j joints, s shape axes, l landmarks.
"""

import io
import pickle
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Int
from scipy.spatial.transform import Rotation

from mien.errors import UserError
from mien.face.geometry import Array
from mien.face_model.correspondence import Correspondence, register
from mien.face_model.parametric import EYES, FaceModel
from mien.paths import readable

SHAPES = 300  # of FLAME's shape directions, the rest are expressions
_JAW_JOINT, _EYE_JOINTS = 2, (3, 4)  # the left eye's first
_POSE_FEATURES = slice(9, 18)  # of pose directions: those of the jaw
# The jaw's full turn (radians) about x, y up, in FLAME's own axes.
_JAW_TURNS = {
    "jawOpen": (0.4, 0.0, 0.0),
    "jawLeft": (0.0, 0.15, 0.0),
    "jawRight": (0.0, -0.15, 0.0),
}
_TURN = np.array([1.0, -1.0, -1.0]) * 100  # metres, y up, z to the viewer -> model axes
_REGIONS = ("face", *EYES)
_STRONGEST = 3.0  # standard deviations of an expression


class _Kept:
    """Stands for an object of chumpy or scipy: its state, without any of its code."""

    state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


def _blank(kind: type, base: type, state: Any) -> object:
    """copyreg's reconstructor, for `_Kept` alone."""
    if kind is not _Kept or base is not object:
        raise pickle.UnpicklingError(f"an object of {kind.__name__}")
    return _Kept()


_ARRAY, _SCALAR = np.zeros(1).__reduce__()[0], np.float64(0).__reduce__()[0]  # numpy's own
_NUMPY = ("numpy.core.multiarray", "numpy._core.multiarray")
_HARMLESS: dict[tuple[str, str], Any] = {
    **{(module, "_reconstruct"): _ARRAY for module in _NUMPY},
    **{(module, "scalar"): _SCALAR for module in _NUMPY},
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    **{(module, "_reconstructor"): _blank for module in ("copy_reg", "copyreg")},
    **{(module, "object"): object for module in ("__builtin__", "builtins")},
    ("_codecs", "encode"): lambda text, encoding: text.encode(encoding),
    ("chumpy.ch", "Ch"): _Kept,
    ("chumpy.reordering", "Select"): _Kept,
    **{(module, "csc_matrix"): _Kept for module in ("scipy.sparse.csc", "scipy.sparse._csc")},
}


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """Only what arrays are made of.

        Raises:
            UnpicklingError: anything else.
        """
        if (module, name) not in _HARMLESS:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return _HARMLESS[module, name]


def read_flame(path: Path) -> dict[str, Array]:
    """The arrays of FLAME's archive.

    Raises:
        UserError: the file is missing, damaged, or holds anything but arrays.
    """
    content = readable(path, "FLAME").read_bytes()
    try:
        found = _Reader(io.BytesIO(content), encoding="latin1").load()
        names = ("v_template", "f", "shapedirs", "posedirs", "J_regressor", "weights")
        return {name: _array(found[name]) for name in names}
    except (
        *(pickle.UnpicklingError, KeyError, TypeError, ValueError, EOFError),
        *(AttributeError, IndexError, ImportError),  # a damaged pickle raises any of them
    ) as error:
        raise UserError(
            f"{path} is not FLAME's archive ({error}): give generic_model.pkl or flame2023.pkl as "
            "it was downloaded"
        ) from error


def _array(value: Any) -> Array:
    """An array, chumpy's (its state's `x`) or a sparse matrix, as a dense one."""
    if not isinstance(value, _Kept):
        return np.asarray(value)
    state = value.state
    if "x" in state:
        return _array(state["x"])
    rows, columns = state.get("_shape", state.get("shape"))
    dense = np.zeros((rows, columns))
    for column in range(columns):
        part = slice(state["indptr"][column], state["indptr"][column + 1])
        dense[state["indices"][part], column] = state["data"][part]
    return dense


def flame_model(
    kept: Mapping[str, Array],
    shapes: int,
    expressions: int,
    points: tuple[Int[Array, " l"], Float[Array, "l 3"]] | None = None,
) -> FaceModel:
    """The model of the archive's arrays, with the first `shapes` and `expressions` axes.

    `points` are some of FaceMesh's points and their places on the neutral mesh in metres; without
    them the model can be drawn but not fitted.

    Raises:
        UserError: the archive has fewer axes.
    """
    directions = kept["shapedirs"]
    if shapes > SHAPES or SHAPES + expressions > directions.shape[2]:
        raise UserError(
            f"FLAME has {SHAPES} shape and {directions.shape[2] - SHAPES} expression axes: "
            f"{shapes} and {expressions} are too many"
        )
    template, weights = kept["v_template"].astype(np.float64), kept["weights"]
    joints = kept["J_regressor"] @ template
    jaw = {name: _opened(kept, joints, turn) - template for name, turn in _JAW_TURNS.items()}
    chosen = directions[:, :, SHAPES : SHAPES + expressions].transpose(2, 0, 1)
    region = np.zeros(len(template), np.uint8)
    for number, joint in enumerate(_EYE_JOINTS, start=1):
        region[weights[:, joint] > 0.5] = number
    names = (*jaw, *(f"expression{n:03d}" for n in range(expressions)))
    limits = [(0, 1)] * len(jaw) + [(-_STRONGEST, _STRONGEST)] * expressions
    model = FaceModel(
        neutral=_placed(template),
        triangles=kept["f"].astype(np.int32),
        region=region,
        region_names=_REGIONS,
        identity_axes=_placed(directions[:, :, :shapes].transpose(2, 0, 1)),
        expression_names=names,
        expression_axes=_placed(np.concatenate([np.stack(list(jaw.values())), chosen])),
        expression_range=np.array(limits, np.float32),
        eye_centers=_placed(joints[list(_EYE_JOINTS)]),
        points=None,
    )
    return model if points is None else replace(model, points=_registered(model, *points))


def _opened(
    kept: Mapping[str, Array], joints: Float[Array, "j 3"], turn: tuple[float, ...]
) -> Float[Array, "n 3"]:
    """The skinned mesh with the jaw turned."""
    matrix = Rotation.from_rotvec(turn).as_matrix()
    shaped = kept["v_template"] + kept["posedirs"][:, :, _POSE_FEATURES] @ (
        (matrix - np.eye(3)).reshape(-1)
    )
    hinge, share = joints[_JAW_JOINT], kept["weights"][:, _JAW_JOINT, None]
    return shaped + share * ((shaped - hinge) @ matrix.T + hinge - shaped)


def _placed(metres: Float[Array, "*n 3"]) -> Float32[Array, "*n 3"]:
    return (metres * _TURN).astype(np.float32)


def _registered(
    model: FaceModel, marks: Int[Array, " l"], places: Float[Array, "l 3"]
) -> Correspondence:
    skin = np.isin(model.triangles, model.vertices_of("face")).all(axis=1)
    opened = np.linalg.norm(model.expression_axes[0], axis=1)
    return register(
        model.neutral,
        model.triangles[skin],
        opened,
        tuple(marks.tolist()),
        _placed(places).astype(np.float64),
        0,
        model.eye_centers,
    )
