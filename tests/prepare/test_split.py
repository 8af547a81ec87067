"""People stay on their side of the split, whatever is added to the footage or renamed in it."""

import json
from pathlib import Path

import numpy as np
import pytest

from mien.data.manifest import read_manifest
from mien.errors import UserError
from mien.face import SAME_PERSON, cluster_people
from mien.prepare.collections import chance_of
from mien.prepare.command import main
from mien.prepare.split import AT_ONCE, Candidate, Person, Split, read_split
from tests.prepare.footage import LAMP_FINDER, LIMITS_OFF, film

QUICK = ["--set", "cut.min_seconds=1", "cut.size=64", LAMP_FINDER, *LIMITS_OFF]


def prepare(footage: Path, output: Path, *changes: str) -> int:
    return main([str(footage), "-o", str(output), *QUICK, *changes])


def sides(dataset: Path) -> dict[str, str]:
    """The split of each person, as the manifests have it."""
    listed = {name: read_manifest(dataset / f"{name}.jsonl") for name in ("train", "valid")}
    return {record.identity: name for name, records in listed.items() for record in records}


def talk(footage: Path, name: str, length: int) -> Path:
    """A short film, unlike others of another length; nobody's face is in it but LampFinder's."""
    return film(footage / f"{name}.mp4", 1.2 + 0.04 * length, faces=(), size=(160, 120))


@pytest.fixture
def footage(tmp_path: Path) -> Path:
    for length, name in enumerate(("ann/1", "bob/1", "eve/1")):
        talk(tmp_path / "footage", name, length)
    return tmp_path / "footage"


def test_nobody_changes_sides_when_people_are_added(footage: Path, tmp_path: Path):
    """Nobody's hash is below valid_share, so the least decides; kim's is less than ann's."""
    assert 0.05 < chance_of("kim") < min(map(chance_of, ("ann", "bob", "eve")))
    assert prepare(footage, tmp_path / "d") == 0
    before = sides(tmp_path / "d")
    assert before == {"ann": "valid", "bob": "train", "eve": "train"}
    talk(footage, "kim/1", 3)
    assert prepare(footage, tmp_path / "d") == 0
    assert sides(tmp_path / "d") == before | {"kim": "train"}


def test_a_renamed_person_is_the_same_person(footage: Path, tmp_path: Path):
    assert prepare(footage, tmp_path / "d") == 0
    before = sides(tmp_path / "d")
    for name in ("ann", "bob", "eve"):
        (footage / name).rename(footage / f"{name}-renamed")
    talk(footage, "bob-renamed/2", 5)
    assert prepare(footage, tmp_path / "d") == 0
    assert sides(tmp_path / "d") == before
    listed = [
        record
        for name in ("train", "valid")
        for record in read_manifest(tmp_path / "d" / f"{name}.jsonl")
        if record.identity == "bob"
    ]
    assert len(listed) == 2, "what is new in the renamed folder is bob's too"


def test_a_data_set_of_an_earlier_version_keeps_its_split(footage: Path, tmp_path: Path):
    assert prepare(footage, tmp_path / "d") == 0
    written = (tmp_path / "d" / "split.json").read_bytes()
    before = sides(tmp_path / "d")
    (tmp_path / "d" / "split.json").unlink()
    talk(footage, "kim/1", 3)
    assert prepare(footage, tmp_path / "d") == 0
    assert sides(tmp_path / "d") == before | {"kim": "train"}
    old = json.loads(written)
    new = json.loads((tmp_path / "d" / "split.json").read_text())
    assert all(old[part].items() <= new[part].items() for part in old)


def test_a_damaged_split_is_refused(tmp_path: Path):
    (tmp_path / "split.json").write_text('{"people": {"ann"')
    with pytest.raises(UserError, match="split.json cannot be read"):
        read_split(tmp_path, by_face=False)


def test_one_flat_folder_is_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for length in range(2):
        talk(tmp_path / "flat", str(length), length)
    assert prepare(tmp_path / "flat", tmp_path / "d") == 0
    said = capsys.readouterr().err
    assert "WARNING: the 2 videos" in said and "people=faces" in said
    talk(tmp_path / "good", "ann/1", 0)
    assert prepare(tmp_path / "good", tmp_path / "e") == 0
    assert "WARNING" not in capsys.readouterr().err


def faces(people: int, each: int, seed: int = 0) -> list[Candidate]:
    """Embeddings of people as far apart as real ones, their clips in no order."""
    draw = np.random.default_rng(seed)
    middles = draw.normal(size=(people, 128))
    middles *= 0.75 / np.linalg.norm(middles, axis=1, keepdims=True)  # about 1 apart
    found = []
    for clip in draw.permutation(people * each):
        who = clip % people
        embedding = middles[who] + 0.2 / np.sqrt(128) * draw.normal(size=128)
        found.append(
            Candidate(
                f"{draw.integers(2**60):016x}", f"p{who}/{clip}", embedding.astype(np.float32)
            )
        )
    return found


def people_of(found: dict[str, str], candidates: list[Candidate]) -> set[tuple[str, str]]:
    """(real person, found person) of all clips."""
    return {(seen.name.split("/")[0], found[seen.key]) for seen in candidates}


def test_clustering_does_not_depend_on_the_order():
    """Along a chain of looks a greedy pass gives other people from the other end."""
    draw = np.random.default_rng(0)
    line = np.sort(draw.uniform(0, 3 * SAME_PERSON, 40))[:, None].astype(np.float32)
    straight = cluster_people(list(line))
    order = draw.permutation(len(line))
    shuffled = cluster_people(list(line[order]))
    assert len(set(straight)) > 1
    pairs = set(zip(straight[order].tolist(), shuffled.tolist(), strict=True))
    assert len(pairs) == len(set(straight.tolist()))
    assert straight[0] == 0 and shuffled[0] == 0


def test_people_told_by_faces_are_known_in_new_footage():
    candidates = faces(people=6, each=10)
    first, later = candidates[:40], candidates[40:]
    split = Split()
    found = split.by_face(first)
    split.add(first, found, {sorted(set(found.values()))[0]})
    before = {name: person.split for name, person in split.people.items()}
    # Renamed and shuffled, with clips that sort before all others, and one more person.
    renamed = [Candidate(s.key, f"a/{i}", s.embedding) for i, s in enumerate(reversed(first))]
    stranger = Candidate("ff", "a/0", -3 * np.ones(128, np.float32))
    found = split.by_face([*renamed, *later, stranger])
    assert len(people_of(found, [*first, *later])) == 6
    assert set(found.values()) - before.keys() == {found["ff"]}
    split.add([*renamed, *later, stranger], found, set())
    assert {n: p.split for n, p in split.people.items()} == before | {found["ff"]: "train"}
    assert sum(person.clips for person in split.people.values()) == 61


def test_a_name_that_is_taken_is_not_given_to_a_stranger():
    split = Split(people={"a/0": Person("valid", [0.0, 0.0], 1)})
    found = split.by_face([Candidate("0123456789", "a/0", np.array([5.0, 5.0]))])
    assert found == {"0123456789": "a/0-01234567"}


def test_many_faces_are_clustered_piece_by_piece(monkeypatch: pytest.MonkeyPatch):
    assert AT_ONCE**2 / 2 * 8 <= 64e6
    candidates = faces(people=20, each=12)
    whole = people_of(Split().by_face(candidates), candidates)
    monkeypatch.setattr("mien.prepare.split.AT_ONCE", 50)
    assert people_of(Split().by_face(candidates), candidates) == whole and len(whole) == 20


def test_a_data_set_of_a_version_with_fewer_numbers_goes_on(tmp_path: Path, capsys):
    """What was not asked then is as it was; what differs is still refused."""
    talk(tmp_path / "footage", "ann/1", 0)
    assert prepare(tmp_path / "footage", tmp_path / "d") == 0
    written = tmp_path / "d" / "prepare.yaml"
    fewer = [line for line in written.read_text().splitlines() if not line.startswith("sound:")]
    written.write_text("\n".join(fewer) + "\n")
    assert prepare(tmp_path / "footage", tmp_path / "d") == 0
    assert "sound: required" in written.read_text()
    assert prepare(tmp_path / "footage", tmp_path / "d", "sound=optional") == 1
    assert "begun with other settings" in capsys.readouterr().err
