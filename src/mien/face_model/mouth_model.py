"""Teeth, gums, tongue and the cavity behind them: what mien keeps of ICT-FaceKit's face model.

The asset is made by tools/make_mouth_model.py and described in `mien.face_model.mouth_reduction`.
Axes: n vertices, k triangles. Coordinates are those of `mien.mesh.alignment`: the mean face's,
unit eye distances, x to the picture's right, y down, z away from the viewer.
"""

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, UInt8

from mien.face.geometry import Array

MOUTH_MODEL = Path(__file__).parents[1] / "assets" / "mouth_model.npz"
FLESH, TOOTH, CAVITY = range(3)  # what a vertex belongs to


@dataclass(frozen=True)
class MouthModel:
    """The inside of a mouth at rest, of the neutral mean face.

    `jaw` is the share of the jaw's turn about `hinge` (y z) that a vertex makes: 0 follows the
    skull, 1 the jaw; `edge` are the y and z of the lower incisors' edge. `lips` is the middle of
    the closed lips' seam and `width` is between the corners of the mouth.
    """

    vertices: Float[Array, "n 3"]
    normals: Float[Array, "n 3"]
    triangles: Int[Array, "k 3"]
    part: UInt8[Array, " n"]
    jaw: Float[Array, " n"]
    hinge: Float[Array, " 2"]
    edge: Float[Array, " 2"]
    lips: Float[Array, " 3"]
    width: float

    def save(self, file: Path) -> None:
        """Write the asset."""
        np.savez_compressed(
            file,
            vertices=self.vertices.astype(np.float32),
            normals=self.normals.astype(np.float16),
            triangles=self.triangles.astype(np.uint16),
            part=self.part,
            jaw=self.jaw.astype(np.float16),
            hinge=self.hinge,
            edge=self.edge,
            lips=self.lips,
            width=np.float64(self.width),
        )


@functools.cache
def mouth_model() -> MouthModel:
    """The model that the package carries."""
    with np.load(MOUTH_MODEL) as kept:
        wide = {name: kept[name].astype(np.float64) for name in ("vertices", "normals", "jaw")}
        same = {name: kept[name] for name in ("part", "hinge", "edge", "lips")}
        triangles = kept["triangles"].astype(np.int32)
        return MouthModel(**wide, **same, triangles=triangles, width=float(kept["width"]))


def turned(
    points: Float[Array, "n 3"], share: Float[Array, " n"], hinge: Float[Array, " 2"], angle: float
) -> Float[Array, "n 3"]:
    """The points after the jaw has opened by `angle` (radians), each by its share."""
    arm = points[:, 1:] - hinge
    cos, sin = np.cos(angle), np.sin(angle)
    moved = points.copy()
    moved[:, 1] += share * (arm[:, 0] * (cos - 1) - arm[:, 1] * sin)
    moved[:, 2] += share * (arm[:, 0] * sin + arm[:, 1] * (cos - 1))
    return moved
