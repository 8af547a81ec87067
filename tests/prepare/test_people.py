"""People are identified by their faces where nothing else identifies them."""

import csv
import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from mien.data.manifest import read_manifest
from mien.errors import UserError
from mien.face import FaceIdentity, FaceMesh, cluster_people
from mien.face.identity import SAME_PERSON
from mien.media import read_frames
from mien.prepare.command import main
from mien.prepare.dataset import NO_EMBEDDING
from tests.prepare.footage import film, hum, portrait, still


def test_vectors_of_three_people_are_told_apart():
    generator = np.random.default_rng(0)
    middles = generator.normal(size=(3, 128))
    middles /= np.linalg.norm(middles, axis=1, keepdims=True)
    who = generator.integers(0, 3, 60)
    looks = middles[who] + 0.15 / np.sqrt(128) * generator.normal(size=(60, 128))
    people = cluster_people(list(looks.astype(np.float32)))
    first = {person: index for index, person in reversed(list(enumerate(who)))}
    order = {person: rank for rank, person in enumerate(sorted(first, key=lambda p: first[p]))}
    assert people.tolist() == [order[person] for person in who]
    assert len(cluster_people([])) == 0


def test_one_face_looks_like_itself_in_another_light_and_size():
    pytest.importorskip("dlib")
    mesh, identity = FaceMesh(), FaceIdentity()
    face = portrait()
    looks = []
    for picture in (face, cv2.resize(face, (180, 180)), (face * 0.6).astype(np.uint8)):
        looks.append(identity(picture, mesh.landmarks(picture, mesh.faces(picture)[0])[0]))
    assert looks[0].shape == (128,)
    assert max(np.linalg.norm(embedding - looks[0]) for embedding in looks) < SAME_PERSON


@pytest.mark.footage
def test_real_people_are_told_apart(footage: Path):
    pytest.importorskip("dlib")
    mesh, identity = FaceMesh(), FaceIdentity()
    names, who = [], []
    for split, every in (("train", 60), ("valid", 1)):
        with (footage / split / "manifest.tsv").open(encoding="utf-8") as lines:
            for row in list(csv.DictReader(lines, delimiter="\t"))[::every]:
                names.append(f"{split}/{row['file']}")
                who.append(row["ident"])
    looks = []
    for name in names:
        picture = next(iter(read_frames(footage / name)))
        looks.append(identity(picture, mesh.landmarks(picture, mesh.faces(picture)[0])[0]))
    people = cluster_people(looks).tolist()
    assert len(set(who)) > 5
    assert len(set(zip(who, people, strict=True))) == len(set(who)) == len(set(people))


def test_clips_in_one_heap_find_their_people(tmp_path: Path):
    pytest.importorskip("dlib")
    for number in range(2):
        film(tmp_path / "f" / f"{number}.mp4", seconds=1.2, sounds=[hum(1.2) * (1 - 0.1 * number)],
             faces=(still(60 - 20 * number),))  # fmt: skip
    asked = [str(tmp_path / "f"), "-o", str(tmp_path / "d"), "--set", "cut.min_seconds=1"]
    assert main([*asked, "people=faces", "valid_share=0"]) == 0
    assert [r.identity for r in read_manifest(tmp_path / "d" / "train.jsonl")] == ["0-000000"] * 2


class OnlyInFootage(FaceMesh):
    """A face finder that sees no face in a finished clip."""

    def faces(self, picture):
        """Faces in pictures that are no squares."""
        return [] if picture.shape[0] == picture.shape[1] else super().faces(picture)


def test_a_face_that_nobody_can_tell_is_no_training_clip(tmp_path: Path):
    """It may be somebody who is kept for validation."""
    pytest.importorskip("dlib")
    film(tmp_path / "f" / "0.mp4", seconds=1.2)
    asked = [str(tmp_path / "f"), "-o", str(tmp_path / "d"), "--set", "cut.min_seconds=1"]
    finder = f"face_finder={__name__}.OnlyInFootage"
    assert main([*asked, "people=faces", "valid_share=0", finder]) == 0
    [part] = json.loads((tmp_path / "d" / "records.jsonl").read_text())["parts"]
    assert part["reasons"] == [NO_EMBEDDING] and not (tmp_path / "d" / "train.jsonl").read_text()


def test_faces_join_what_a_collection_takes_apart(tmp_path: Path):
    """TalkVid's people come back in other videos."""
    pytest.importorskip("dlib")
    for clip, level in (("AA-BB-scene1-scene1", 1.0), ("CC-DD-scene1-scene2", 0.9)):
        film(tmp_path / "f" / f"{clip}.mp4", seconds=1.2, sounds=[level * hum(1.2)])
    people = {}
    for way in ("layout", "faces"):
        asked = [str(tmp_path / "f"), "-o", str(tmp_path / way), "--collection", "talkvid"]
        changes = ["cut.min_seconds=1", "valid_share=0", f"people={way}"]
        assert main([*asked, "--set", *changes]) == 0
        people[way] = {r.identity for r in read_manifest(tmp_path / way / "train.jsonl")}
    assert people["layout"] == {"talkvid_AA-BB", "talkvid_CC-DD"} and len(people["faces"]) == 1


def test_faces_do_not_overrule_a_list_for_validation(tmp_path: Path):
    film(tmp_path / "f" / "s1" / "bbaf2n.mp4", seconds=0.2)
    asked = [str(tmp_path / "f"), "-o", str(tmp_path / "d"), "--collection", "grid"]
    assert main([*asked, "--set", "people=faces"]) == 1


def test_without_dlib_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "dlib", None)
    with pytest.raises(UserError, match=r"mien\[identity\]"):
        FaceIdentity()
