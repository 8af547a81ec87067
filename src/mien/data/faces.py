"""A cache of fitted faces: the face model's coefficients in every frame of a clip, by content."""

import functools
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from mien.data.clip_files import ClipFiles
from mien.data.contents import DIGITS
from mien.data.meshes import face_mesh
from mien.data.store import Store
from mien.face.geometry import Picture
from mien.face_model.clips import fit_frames
from mien.face_model.coefficients import FaceCoefficients
from mien.face_model.fitting import FIT_VERSION, NoFace
from mien.face_model.parametric import FACE_MODEL, FaceModel
from mien.face_model.tracking import FaceTracker
from mien.media import read_frames


class FaceCache(ClipFiles[FaceCoefficients | None]):
    """Coefficients of clips in a folder (`ClipFiles`), in a subfolder named by the face model and
    the version of the fit; None where no frame shows a face.
    """

    title, suffix = "faces of clips", ".npz"

    def __init__(self, root: Path | Store, folder: Path | Store) -> None:
        super().__init__(root, folder, fit_fingerprint())

    def compute(self, path: Path) -> FaceCoefficients | None:
        """The face fitted to a clip's file."""
        return faces_in(read_frames(path), path.name)

    def pack(self, value: FaceCoefficients | None) -> bytes:
        """The content of a file of coefficients; empty without a face."""
        if value is None:
            return b""
        with TemporaryDirectory(prefix="mien-") as folder:
            made = Path(folder, "faces.npz")
            value.save(made)
            return made.read_bytes()

    def unpack(self, path: Path) -> FaceCoefficients | None:
        """The coefficients of a packed file.

        Raises:
            UserError: it is damaged.
        """
        return FaceCoefficients.load(path) if path.stat().st_size else None

    def size(self, value: FaceCoefficients | None) -> int:
        """Bytes of the arrays."""
        arrays = [] if value is None else vars(value).values()
        return sum(array.nbytes for array in arrays if isinstance(array, np.ndarray))


def faces_in(frames: Iterable[Picture], name: str = "the clip") -> FaceCoefficients | None:
    """The face model fitted to the largest face in frames of 25 a second; None if no frame shows
    one. `name` is the clip's in messages.

    Raises:
        UserError: the points of a frame are not those of a face.
    """
    try:
        return fit_frames(frames, name, face_tracker(), face_model())
    except NoFace:
        return None


def fit_fingerprint() -> str:
    """A hash that changes with the face model that ships and with FIT_VERSION."""
    return _fingerprint_of(FACE_MODEL, FIT_VERSION)


@functools.cache
def _fingerprint_of(model: Path, version: int) -> str:
    return sha256(f"{version} ".encode() + model.read_bytes()).hexdigest()[:DIGITS]


@functools.cache
def face_tracker() -> FaceTracker:
    """The nets that see a face's points, loaded once in a process."""
    return FaceTracker(face_mesh())


@functools.cache
def face_model() -> FaceModel:
    """The face model that ships, loaded once in a process."""
    return FaceModel.load()
