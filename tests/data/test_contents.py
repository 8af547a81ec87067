"""Caches are named by what clips hold: no clip is served another's motion."""

from pathlib import Path

import torch

from mien.data.contents import INDEX, Contents
from mien.data.drawn import write_clips
from mien.data.latents import extract_all, read, without_latents
from mien.data.manifest import ClipRecord
from mien.data.records import read_records
from mien.data.store import Store
from tests.portrait.tiny import tiny_animator


def clips_of(root: Path, seed: int) -> list[ClipRecord]:
    write_clips(root, "train", people=1, clips=1, frames=12, size=64, seed=seed)
    return read_records(root, Path("train.jsonl"))


def test_two_data_sets_of_equal_names_have_motion_of_their_own(tmp_path: Path):
    cache, animator = tmp_path / "motion", tiny_animator().eval()
    found = []
    for seed in (0, 9):
        root = tmp_path / str(seed)
        records = Contents(root, cache).add_to(clips_of(root, seed))
        assert without_latents(records, Store(cache)) == records
        extract_all(animator, records, root, cache)
        found.append(read(cache, records[0]))
    assert not torch.allclose(found[0].motion, found[1].motion)
    assert not torch.equal(found[0].sound, found[1].sound)


def test_a_changed_clip_is_known_as_another(tmp_path: Path):
    records = clips_of(tmp_path / "a", 0)
    contents = Contents(tmp_path / "a", tmp_path / "motion")
    contents.learn(records)
    [before] = contents.add_to(records)
    clips_of(tmp_path / "a", 9)
    [after] = Contents(tmp_path / "a", tmp_path / "motion").add_to(records)
    assert before.content != after.content and before.path == after.path


def test_a_clip_is_hashed_once(tmp_path: Path, monkeypatch):
    records = clips_of(tmp_path / "a", 0)
    Contents(tmp_path / "a", tmp_path / "motion").learn(records)
    index = (tmp_path / "motion" / INDEX).read_bytes()
    first = Contents(tmp_path / "a", tmp_path / "motion").add_to(records)

    def refuse(store: Store, name: str) -> bytes:
        assert name == INDEX, f"{name} is read again"
        return index

    monkeypatch.setattr(Store, "read", refuse)
    again = Contents(tmp_path / "a", tmp_path / "motion")
    again.learn(records)
    assert again.add_to(records) == first


def test_a_copy_shares_what_is_known(tmp_path: Path):
    """Equal bytes give equal motion, wherever they lie."""
    marks = {
        Contents(root, tmp_path).of(clips_of(root, 0)[0])
        for root in (tmp_path / "a", tmp_path / "b")
    }
    assert len(marks) == 1
