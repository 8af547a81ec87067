"""A cache of fitted faces: the face model's coefficients in every frame of a clip, by content."""

import functools
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from jaxtyping import UInt8
from tqdm import tqdm

from mien.data.contents import Contents
from mien.data.manifest import ClipRecord
from mien.data.meshes import ClipMeshes, MeshCache
from mien.data.store import Store
from mien.face.landmarker import FaceLandmarker
from mien.face_model.coefficients import FaceCoefficients
from mien.face_model.fitting import fit_points
from mien.face_model.parametric import FaceModel
from mien.media import read_frames
from mien.types import FPS

_POINTS = 478  # FaceMesh's 468 and two irises
HELD = 1000  # clips whose coefficients each process keeps in memory


class FaceCache:
    """Coefficients in a folder, one file per clip, named by its content hash, as its meshes are.

    Args:
        root: where the clips are.
        folder: of the coefficients.
        meshes: folder of the meshes that they are fitted to, which are tracked if missing.
    """

    def __init__(self, root: Path | Store, folder: Path | Store, meshes: Path | Store) -> None:
        self.root, self.folder = Store(root), Store(folder)
        self.meshes = MeshCache(root, meshes)
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
        if missing:
            self.meshes.extract(missing)
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
            return fit_frames(read_frames(path), self.meshes.meshes(record))

    def _name(self, record: ClipRecord) -> str:
        if record.path not in self._names:
            self._names[record.path] = f"{self._contents.of(record)}.npz"
        return self._names[record.path]


def fit_frames(
    frames: Iterable[UInt8[np.ndarray, "h w 3"]], meshes: ClipMeshes
) -> FaceCoefficients | None:
    """Fit the face model to a clip whose FaceMesh landmarks are known; None if no frame shows a
    face. A second net, MediaPipe's landmarker, adds the irises and sees lids better.
    """
    found, size = meshes.found.numpy(), (1, 1)
    points = np.full((len(found), _POINTS, 3), np.nan)
    for t, frame in enumerate(frames):
        size = frame.shape[1], frame.shape[0]
        if found[t]:
            mesh = (meshes.points[t].numpy() * size[0]).astype(np.float32)
            points[t] = landmarker().with_irises(frame, mesh)
    return fit_points(points, size, float(FPS), face_model()) if found.any() else None


@functools.cache
def landmarker() -> FaceLandmarker:
    """MediaPipe's landmarker, loaded once in a process."""
    return FaceLandmarker()


@functools.cache
def face_model() -> FaceModel:
    """The face model that ships, loaded once in a process."""
    return FaceModel.load()
