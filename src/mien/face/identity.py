"""Who is it? Pictures of one person give vectors that lie close together. The one door to dlib.

Source: Davis King's ResNet (dlib, 2017), whose weights are in the public domain (CC0); they come
with `face-recognition-models`. The points come from FaceMesh: the 68-point model beside them in
that package may not be used commercially, and is not.
Axes: d numbers, n vectors.
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

# On 51 clips of 26 people, one person's vectors lie at most 0.39 apart, two people's at least 0.56.
SAME_PERSON = 0.47
# Corners of the left eye (the person's) and of the right, each from the outer to the inner one, and
# the root of the nose's septum: the five points that dlib turns a face upright by, in its order.
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
            raise UserError(
                'telling people by their faces needs dlib: pip install "mien[identity]"'
            )
        folder = Path(package.submodule_search_locations[0], "models")
        self._dlib = dlib
        self._net = dlib.face_recognition_model_v1(  # pyright: ignore
            str(folder / "dlib_face_recognition_resnet_model_v1.dat")
        )

    def __call__(self, picture: Picture, points: Landmarks) -> Float[Array, "128"]:
        """The vector of one face."""
        dlib = self._dlib
        box = dlib.rectangle(*(round(edge) for edge in face_box(points)))  # pyright: ignore
        five = [dlib.point(round(float(x)), round(float(y)))  # pyright: ignore
                for x, y, _ in points[list(FIVE)]]  # fmt: skip
        face = dlib.full_object_detection(box, five)  # pyright: ignore
        return np.array(
            self._net.compute_face_descriptor(np.ascontiguousarray(picture), face), np.float32
        )


def tell_apart(looks: Sequence[Float[Array, " d"]]) -> Int[Array, " n"]:
    """A number for each vector: the person, counted from 0 in the order in which they appear.

    Each vector joins the person whose mean it is nearest to, or begins a new one: one pass, in
    time that grows with the vectors times the people.
    """
    means = np.zeros((1, len(looks[0]) if looks else 0), np.float32)
    counts: list[int] = []
    people = np.zeros(len(looks), np.int64)
    for index, look in enumerate(looks):
        distances = np.square(means[: len(counts)] - look).sum(axis=1)
        person = int(distances.argmin()) if counts else 0
        if not counts or distances[person] > SAME_PERSON**2:
            person = len(counts)
            counts.append(0)
            if person == len(means):
                means = np.concatenate((means, np.zeros_like(means)))  # twice as many
            means[person] = look
        counts[person] += 1
        means[person] = means[person] + (look - means[person]) / counts[person]
        people[index] = person
    return people
