"""The portraits of a folder, and what moving one needs: its mesh, the person, what stands behind.

Axes: h w space, n points. Pictures of a face are RGB in [-1, 1].
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float
from torch import Tensor

from mien.data.meshes import face_mesh
from mien.errors import UserError
from mien.face import Scene, crop, find_portrait, scene_of
from mien.face_model.mouth import MouthInterior
from mien.media import load_picture
from mien.mesh.retarget import PortraitMesh

PICTURES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"}
MANIFEST = "manifest.tsv"  # file, ident, class: who is in a picture, and under which terms


@dataclass(frozen=True)
class PortraitFile:
    """A picture, who is in it, and its terms."""

    path: Path
    identity: str
    licence: str


@dataclass(frozen=True)
class MovablePortrait:
    """A cropped portrait, ready to be moved."""

    picture: Float[Tensor, "1 3 h w"]
    scene: Scene
    mesh: PortraitMesh
    mouth: MouthInterior


def list_portraits(folder: Path) -> list[PortraitFile]:
    """All pictures below a folder, in order. Without a line in MANIFEST a picture is somebody of
    its own, under the licence `own`.

    Raises:
        UserError: the folder or its manifest cannot be read, or holds no picture.
    """
    if not folder.is_dir():
        raise UserError(f"the folder of portraits {folder} does not exist: check the path")
    known = _known_people(folder / MANIFEST)
    found = [p for p in sorted(folder.rglob("*")) if p.suffix.lower() in PICTURES and p.is_file()]
    if not found:
        raise UserError(f"no picture in {folder}: give a folder with {', '.join(sorted(PICTURES))}")
    files = []
    for path in found:
        name = path.relative_to(folder).as_posix()
        identity, licence = known.get(
            name, (path.relative_to(folder).with_suffix("").as_posix(), "own")
        )
        files.append(PortraitFile(path, identity, licence))
    return files


def _known_people(manifest: Path) -> dict[str, tuple[str, str]]:
    if not manifest.is_file():
        return {}
    with manifest.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines, delimiter="\t"))
    wanted = ("file", "ident", "class")
    if rows and not all(name in rows[0] for name in wanted):
        raise UserError(f"{manifest} needs the columns {', '.join(wanted)}, parted by tabs")
    return {row["file"]: (row["ident"], row["class"]) for row in rows}


def group_people(files: Sequence[PortraitFile], size: int, seed: int) -> list[list[PortraitFile]]:
    """Groups of `size` different people in a random order, one picture each; the last is smaller.

    Of a person with several pictures, each stands in a group of its own.
    """
    people: dict[str, list[PortraitFile]] = {}
    for file in files:
        people.setdefault(file.identity, []).append(file)
    random = np.random.default_rng((seed, 0x6709))
    groups = []
    while people:
        names = sorted(people)
        shuffled = [names[i] for i in random.permutation(len(names))]
        groups += [
            [people[name].pop(0) for name in shuffled[start : start + size]]
            for start in range(0, len(shuffled), size)
        ]
        people = {name: left for name, left in people.items() if left}
    return groups


def read_portrait(path: Path, size: int) -> MovablePortrait:
    """A portrait framed as `mien infer` does, at `size` pixels.

    Raises:
        UserError: it cannot be read, or shows no face.
    """
    nets, picture = face_mesh(), load_picture(path)
    cropped = crop(picture, find_portrait(picture, nets, str(path)).box, size)
    pixels = ((cropped[0].permute(1, 2, 0) + 1) * 127.5).round().byte().numpy()
    faces = nets.faces(pixels)
    if not faces:
        raise UserError(f"no face found in {path} once it is cropped: leave the picture out")
    points = nets.landmarks(pixels, faces[0])[0].astype(np.float64)
    mesh, scene = PortraitMesh.of(points), scene_of(pixels, points[:, :2])
    return MovablePortrait(cropped, scene, mesh, MouthInterior.of(mesh, pixels))
