"""Face embeddings: pictures of one person give vectors that are close. The only module using dlib.

Source: Davis King's ResNet (dlib, 2017), whose weights are in the public domain (CC0); they come
with `face-recognition-models`. Landmarks come from FaceMesh: the package's 68-point model may not
be used commercially, and is not used.
Axes: d embedding dimensions, n embeddings.
"""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from mien.errors import UserError
from mien.face.geometry import Array, Picture
from mien.face.measures import LEFT_EYE, RIGHT_EYE, face_box
from mien.face.mesh import Landmarks

# On 51 clips of 26 people, embeddings of one person are at most 0.39 apart, of two at least 0.56.
SAME_PERSON = 0.47
# Corners of the left eye (the person's) and of the right, each from the outer to the inner one, and
# the root of the nose's septum: the five points by which dlib aligns a face, in its order.
NOSE = 2
FIVE = (*reversed(LEFT_EYE), *RIGHT_EYE, NOSE)


class FaceIdentity:
    """The net, loaded once.

    Raises:
        UserError: it is not installed.
    """

    def __init__(self) -> None:
        package = find_spec("face_recognition_models")
        try:
            import dlib  # pyright: ignore[reportMissingImports]
        except ImportError:
            dlib = None
        if package is None or dlib is None or package.submodule_search_locations is None:
            raise UserError('identifying people by face needs dlib: pip install "mien[identity]"')
        folder = Path(package.submodule_search_locations[0], "models")
        self._dlib = dlib
        self._net = dlib.face_recognition_model_v1(  # pyright: ignore
            str(folder / "dlib_face_recognition_resnet_model_v1.dat")
        )

    def __call__(self, picture: Picture, points: Landmarks) -> Float[Array, "128"]:
        """The embedding of one face."""
        dlib = self._dlib
        box = dlib.rectangle(*(round(edge) for edge in face_box(points)))  # pyright: ignore
        five = [dlib.point(round(float(x)), round(float(y)))  # pyright: ignore
                for x, y, _ in points[list(FIVE)]]  # fmt: skip
        face = dlib.full_object_detection(box, five)  # pyright: ignore
        return np.array(
            self._net.compute_face_descriptor(np.ascontiguousarray(picture), face), np.float32
        )


def cluster_people(embeddings: Sequence[Float[Array, " d"]]) -> Int[Array, " n"]:
    """The person of each embedding, numbered from 0 in the order of appearance.

    Agglomerative clustering with average linkage up to SAME_PERSON: the clusters do not depend on
    the order. Memory grows with the square of the number of embeddings.
    """
    from scipy.cluster.hierarchy import fcluster, linkage

    if len(embeddings) < 2:
        return np.zeros(len(embeddings), np.int64)
    joined = linkage(np.stack(embeddings).astype(np.float64), method="average")
    labels = fcluster(joined, SAME_PERSON, criterion="distance")
    _, first, people = np.unique(labels, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[people]
