"""Every public data set's layout, on miniature trees of its real names."""

import os
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from mien.data.manifest import read_manifest
from mien.errors import UserError
from mien.media import load_audio
from mien.prepare.collections import (
    VIDEOS,
    Collection,
    clip_names,
    is_valid,
    list_sources,
    load_collection,
)
from mien.prepare.command import COLLECTIONS, OWN, find_collection, main
from tests.media_clips import RATE
from tests.prepare.footage import LAMP_FINDER, LIMITS_OFF, film, hum

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
        "W009/audio/neutral/level_1/012.m4a": None,
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
        "videovideo0-rQ-scene1-scene2.mp4": "talkvid_videovideo0-rQ",
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


def draw(path: Path, number: int, silent: bool) -> None:
    """A file of that kind; no two of them are the same."""
    seconds = 1.2 + 0.04 * number
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".wav":
        soundfile.write(path, hum(seconds), RATE)
    elif path.suffix == ".mpg":
        _draw_mpeg(path, seconds)
    elif path.suffix == ".m4a":
        film(path.with_suffix(".mp4"), seconds, ()).rename(path)
    elif path.suffix == ".txt":
        path.write_text("a list")
    else:
        film(path, seconds, (), sounds=[] if silent else None)


def _draw_mpeg(path: Path, seconds: float) -> None:
    """MPEG-1, as in GRID's archives."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg1video", rate=25)
        video.width, video.height, video.pix_fmt = 320, 240, "yuv420p"
        sound = container.add_stream("mp2", rate=44100, layout="mono")
        for _ in range(round(seconds * 25)):
            grey = np.full((240, 320, 3), 90, np.uint8)
            container.mux(video.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
        container.mux(video.encode(None))
        tone = (hum(seconds * 44100 / RATE + 0.1) * 2**15).astype(np.int16)[None]
        for begin in range(0, round(seconds * 44100), 1152):
            block = np.ascontiguousarray(tone[:, begin : begin + 1152])
            piece = av.AudioFrame.from_ndarray(block, format="s16", layout="mono")
            piece.sample_rate, piece.pts = 44100, begin
            container.mux(sound.encode(piece))
        container.mux(sound.encode(None))


@pytest.mark.parametrize("name", TREES)
def test_a_collection_is_prepared(name: str, tmp_path: Path):
    """From files of its kinds to clips: who speaks, on which side of the split, with what sound."""
    collection = find_collection(name)
    for number, path in enumerate(TREES[name]):
        draw(tmp_path / "f" / path, number, silent=collection.sound is not None)
    asked = [str(tmp_path / "f"), "-o", str(tmp_path / "d"), "--collection", name, "--set"]
    assert main([*asked, LAMP_FINDER, "cut.min_seconds=1", "valid_share=0", *LIMITS_OFF]) == 0
    clips = {}
    for split in ("train", "valid"):
        for clip in read_manifest(tmp_path / "d" / f"{split}.jsonl"):
            assert (clip.identity in collection.valid) == (split == "valid")
            assert load_audio(tmp_path / "d" / clip.path).abs().max() > 0.05
            clips[clip.path.removeprefix("clips/").rsplit("-", 1)[0]] = clip.identity
    wanted = {path.rsplit(".", 1)[0]: who for path, who in TREES[name].items() if who}
    assert clips == wanted


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
