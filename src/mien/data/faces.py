"""A cache of fitted faces: the face model's coefficients in every frame of a clip, by content."""

import functools
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

from tqdm import tqdm

from mien.data.contents import DIGITS, Contents
from mien.data.manifest import ClipRecord
from mien.data.meshes import face_mesh
from mien.data.store import Store
from mien.errors import UserError
from mien.face.geometry import Picture
from mien.face_model.clips import fit_frames
from mien.face_model.coefficients import FaceCoefficients
from mien.face_model.fitting import FIT_VERSION
from mien.face_model.parametric import FACE_MODEL, FaceModel
from mien.face_model.tracking import FaceTracker
from mien.media import read_frames

HELD = 1000  # clips whose coefficients each process keeps in memory


class FaceCache:
    """Coefficients in a folder, one file per clip, named by its content hash, in a subfolder named
    by the face model and the version of the fit: a changed clip is fitted again, as all clips are
    after a change of either, and equal clips of two data sets are fitted only once.
    """

    def __init__(self, root: Path | Store, folder: Path | Store) -> None:
        self.root, self.folder = Store(root), Store(folder).below(fit_fingerprint())
        self._contents = Contents(root, folder)
        self._names: dict[str, str] = {}
        self._held: OrderedDict[str, FaceCoefficients | None] = OrderedDict()

    def extract(self, records: Sequence[ClipRecord]) -> None:
        """Fit the clips that are not in the cache, with a progress bar.

        Raises:
            UserError: a clip cannot be read.
        """
        self._contents.learn(records)
        there = self.folder.names()
        missing = [record for record in records if self._name(record) not in there]
        for record in tqdm(missing, "faces of clips", unit="clip", disable=not missing):
            self.keep(record, self._fit(record))

    def faces(self, record: ClipRecord) -> FaceCoefficients | None:
        """The cached coefficients of a clip, None if no frame shows a face; `extract` must have
        been called.
        """
        if record.path not in self._held:
            with self.folder.file(self._name(record)) as path:
                known = FaceCoefficients.load(path) if path.stat().st_size else None
            self._held[record.path] = known
            if len(self._held) > HELD:
                self._held.popitem(last=False)
        self._held.move_to_end(record.path)
        return self._held[record.path]

    def keep(self, record: ClipRecord, faces: FaceCoefficients | None) -> None:
        """Store coefficients of a clip that are known without fitting; None: it shows no face."""
        with TemporaryDirectory(prefix="mien-") as folder:
            made = Path(folder, "faces.npz")
            if faces is not None:
                faces.save(made)
            self.folder.write(self._name(record), made.read_bytes() if faces else b"")

    def _fit(self, record: ClipRecord) -> FaceCoefficients | None:
        with self.root.file(record.path) as path:
            return faces_in(list(read_frames(path)))

    def _name(self, record: ClipRecord) -> str:
        if record.path not in self._names:
            self._names[record.path] = f"{self._contents.of(record)}.npz"
        return self._names[record.path]


def faces_in(frames: Iterable[Picture]) -> FaceCoefficients | None:
    """The face model fitted to the largest face in frames of 25 a second; None if no frame shows
    one.
    """
    try:
        return fit_frames(frames, "the clip", face_tracker(), face_model())
    except UserError:
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
