"""The portraits of a folder, and what moving one needs.

Axes: h w space. Pictures are RGB in [-1, 1].
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float
from torch import Tensor

from mien.errors import UserError
from mien.media import PICTURE_SUFFIXES
from mien.session.portrait import GuidedFace, guided_face, load_face

MANIFEST = "manifest.tsv"  # file, ident, class: who is in a picture, and under which terms


@dataclass(frozen=True)
class PortraitFile:
    """A picture, who is in it, and its terms."""

    path: Path
    identity: str
    licence: str


@dataclass(frozen=True)
class MovablePortrait:
    """A cropped portrait, and what moving it needs."""

    picture: Float[Tensor, "1 3 h w"]
    face: GuidedFace


def list_portraits(folder: Path) -> list[PortraitFile]:
    """All pictures below a folder, sorted. A picture that MANIFEST does not list is a person of its
    own, under the licence `own`.

    Raises:
        UserError: the folder or its manifest cannot be read, or there is no picture.
    """
    if not folder.is_dir():
        raise UserError(f"the folder of portraits {folder} does not exist: check the path")
    known = _known_people(folder / MANIFEST)
    found = [
        p for p in sorted(folder.rglob("*")) if p.suffix.lower() in PICTURE_SUFFIXES and p.is_file()
    ]
    if not found:
        raise UserError(
            f"no picture in {folder}: give a folder with {', '.join(sorted(PICTURE_SUFFIXES))}"
        )
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
        raise UserError(f"{manifest} needs the columns {', '.join(wanted)}, separated by tabs")
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
    picture, _ = load_face(path, None, size)
    face = guided_face(picture)
    if face is None:
        raise UserError(f"no face found in {path} once it is cropped: leave the picture out")
    return MovablePortrait(picture, face)
