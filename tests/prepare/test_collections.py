"""Every public data set's layout, on miniature trees of its real names."""

import os
from pathlib import Path

import pytest

from mien.errors import UserError
from mien.prepare.collections import (
    VIDEOS,
    Collection,
    clip_names,
    is_valid,
    list_sources,
    load_collection,
)
from mien.prepare.command import COLLECTIONS, OWN, find_collection

# For each collection: what lies in the folder, and whom it finds where (None: left out).
TREES = {
    "grid": {
        "s1/bbaf2n.mpg": "grid_s1",
        "s34/video/mpg_6000/lwws9a.mpg": "grid_s34",
        "s1/bbaf2n.wav": None,
    },
    "hdtf": {
        "RD_Radio10_000.mp4": "RD_Radio",
        "WDA_DebbieDingell0_000.mp4": "WDA_DebbieDingell",
        "WDA_DebbieDingell1_000.mp4": "WDA_DebbieDingell",
        "WDA_BarackObama_001.mp4": "WDA_BarackObama",
        "clips/WRA_MarcoRubio_000.mp4": "WRA_MarcoRubio",
        "WDA_BarackObama_001_audio.mp4": None,
        "RD_video_url.txt": None,
    },
    "mead": {
        "M003/video/front/angry/level_1/001.mp4": "mead_M003",
        "W009/video/front/neutral/level_1/012.mp4": "mead_W009",
        "M003/video/left_30/angry/level_1/001.mp4": None,
        "M003/audio/angry/level_1/001.m4a": None,
    },
    "cremad": {
        "VideoFlash/1001_DFA_ANG_XX.flv": "cremad_1001",
        "AudioWAV/1001_DFA_ANG_XX.wav": None,
    },
    "ravdess": {
        "Actor_01/01-01-03-01-01-01-01.mp4": "ravdess_01",
        "Video_Song_Actor_24/Actor_24/01-02-03-01-01-01-24.mp4": "ravdess_24",
        "Actor_01/02-01-03-01-01-01-01.mp4": None,
    },
    "cmlr": {
        "video/s1/20170121/section_1_000.13_002.45.mp4": "cmlr_s1",
        "audio/s1/20170121/section_1_000.13_002.45.wav": None,
    },
    "pats": {
        "oliver/12345.mp4": "pats_oliver",
        "ellen/12345.mp4": None,
    },
    "talkvid": {
        "video-uFsJlSQEMg8/scene3.mp4": "talkvid_video-uFsJlSQEMg8",
        "videovideo0rQ-scene1.mp4": "talkvid_videovideo0rQ",
    },
}


def tree(folder: Path, names: list[str]) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    return folder


def test_every_collection_has_a_tree_here():
    assert {path.stem for path in COLLECTIONS.glob("*.yaml")} == set(TREES)


@pytest.mark.parametrize("name", TREES)
def test_a_collection_finds_its_videos_and_who_speaks(name: str, tmp_path: Path):
    collection = find_collection(name)
    listed = list_sources(tree(tmp_path, list(TREES[name])), collection)
    found = {source.path: source.identity for source in listed.sources}
    assert found == {path: who for path, who in TREES[name].items() if who}
    unlisted = [path for path in listed.unknown if TREES[name][path]]
    assert not unlisted
    assert collection.terms and collection.obtain.strip()


def test_sound_beside_the_picture_is_found(tmp_path: Path):
    mead = list_sources(tree(tmp_path / "mead", list(TREES["mead"])), find_collection("mead"))
    assert mead.sources[0].sound == "M003/audio/angry/level_1/001.m4a"
    cmlr = list_sources(tree(tmp_path / "cmlr", list(TREES["cmlr"])), find_collection("cmlr"))
    assert cmlr.sources[0].sound == "audio/s1/20170121/section_1_000.13_002.45.wav"


def test_own_footage_needs_no_layout(tmp_path: Path):
    names = ["zoë o'neil/im garten.MOV", "bob.mp4", ".hidden.mp4", "notes.txt"]
    listed = list_sources(tree(tmp_path, names), OWN)
    assert [s.path for s in listed.sources] == ["bob.mp4", "zoë o'neil/im garten.MOV"]
    assert all(s.identity is None for s in listed.sources)


def test_links_are_followed(tmp_path: Path):
    tree(tmp_path / "far", ["ann/1.mp4"])
    (tmp_path / "near").mkdir()
    (tmp_path / "near" / "linked").symlink_to(tmp_path / "far" / "ann")
    assert [s.path for s in list_sources(tmp_path / "near", OWN).sources] == ["linked/1.mp4"]


def test_a_ring_of_links_ends(tmp_path: Path):
    tree(tmp_path, ["ann/1.mp4"])
    tree(tmp_path, ["bob/1.mp4"])
    (tmp_path / "ann" / "again").symlink_to(tmp_path)
    (tmp_path / "ann" / "bob").symlink_to(tmp_path / "bob")
    (tmp_path / "bob" / "ann").symlink_to(tmp_path / "ann")
    assert len(list_sources(tmp_path, OWN).sources) == 2


def test_the_data_set_itself_is_no_footage(tmp_path: Path):
    tree(tmp_path, ["ann/1.mp4", "dataset/clips/ann/1-000000.mp4"])
    listed = list_sources(tmp_path, OWN, leave_out=tmp_path / "dataset")
    assert [s.path for s in listed.sources] == ["ann/1.mp4"]


def test_a_name_that_is_no_text_is_told(tmp_path: Path):
    tree(tmp_path, ["ann/1.mp4"])
    (tmp_path / "ann" / os.fsdecode(b"caf\xe9.mp4")).write_bytes(b"x")
    listed = list_sources(tmp_path, OWN)
    assert [s.path for s in listed.sources] == ["ann/1.mp4"]
    assert listed.unknown == ["ann/caf\\udce9.mp4"]


@pytest.mark.parametrize("names", [[], ["notes.txt"]])
def test_a_folder_without_videos_is_told(names: list[str], tmp_path: Path):
    with pytest.raises(UserError, match="no video"):
        list_sources(tree(tmp_path / "here", names) if names else tmp_path, OWN)
    with pytest.raises(UserError, match="no folder"):
        list_sources(tmp_path / "nowhere", OWN)


def test_a_layout_that_does_not_fit_is_told(tmp_path: Path):
    with pytest.raises(UserError, match=r"Actor_1/wrong\.mp4"):
        list_sources(tree(tmp_path, ["Actor_1/wrong.mp4"]), find_collection("ravdess"))


def test_clips_of_two_files_with_one_name_stay_apart(tmp_path: Path):
    long = "ä" * 115
    files = ["a/1.mp4", "a/1.mov", "a/1.mp4.mkv", "b/1.mp4", f"c/{long}1.mp4", f"c/{long}2.mp4"]
    listed = list_sources(tree(tmp_path, files), OWN)
    names = clip_names(listed.sources)
    assert set(names) == set(files) and len(set(names.values())) == len(files)
    assert names["b/1.mp4"] == "b/1" and names["a/1.mp4"].startswith("a/1-")
    assert all(len(name.split("/")[-1].encode()) < 200 for name in names.values())


def test_who_is_kept_for_validation_does_not_depend_on_the_others():
    people = [f"person {i}" for i in range(2000)]
    drawn = [name for name in people if is_valid(name, OWN, 0.05)]
    assert 60 < len(drawn) < 140
    assert drawn == [name for name in reversed(people) if is_valid(name, OWN, 0.05)][::-1]
    named = Collection("t", "own", "t", "o", valid=("person 3",))
    assert [name for name in people if is_valid(name, named, 0.05)] == ["person 3"]


@pytest.mark.parametrize("text", ["title: [", "titel: x", "title: x"])
def test_a_wrong_file_is_told(text: str, tmp_path: Path):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=r"mine\.yaml"):
        load_collection(path)


def test_an_unknown_name_is_told():
    with pytest.raises(UserError, match="ravdess"):
        find_collection("vox")


def test_videos_have_suffixes_in_small_letters():
    assert all(suffix == suffix.lower() and suffix[0] == "." for suffix in VIDEOS)
