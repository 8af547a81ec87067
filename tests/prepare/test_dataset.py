"""Folders of footage become clips and lists; whatever is wrong costs one source and is said."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock

from mien.data.faces import FaceCache
from mien.data.manifest import read_manifest
from mien.data.records import read_records
from mien.face import FaceMesh, face_box
from mien.media import load_audio, probe_video, read_video
from mien.media.timeline import pictures_on_grid
from mien.prepare.collections import Source
from mien.prepare.command import main
from mien.prepare.cutting import SourceCutter
from mien.prepare.settings import Cut, Preparation
from mien.prepare.tracking import FaceTracker
from tests.prepare.footage import LAMP_FINDER, film, hum, picture_of, still
from tests.tools import load_tool

inspect_dataset = load_tool("inspect_dataset")
SHORT = ["--set", "cut.min_seconds=1", "valid_share=0"]


def prepare(footage: Path, output: Path, *more: str) -> int:
    return main([str(footage), "-o", str(output), *(more or SHORT)])


def records(dataset: Path) -> dict[str, dict]:
    lines = (dataset / "records.jsonl").read_text(encoding="utf-8").splitlines()
    return {record["source"]["path"]: record for record in map(json.loads, lines)}


def reasons(record: dict) -> str:
    return "; ".join(reason for part in record["parts"] for reason in part["reasons"])


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sound and broken footage, prepared once."""
    folder = tmp_path_factory.mktemp("förder 'n")
    footage = folder / "footage"
    film(footage / "ann" / "good.mp4")
    two = still(60, 10, 200), still(192, 50, 100)
    film(footage / "ann" / "two faces.mp4", 1.5, faces=two)
    film(footage / "ann" / "near the border.mp4", 1.5, faces=(still(-40, -35, 260),))
    film(footage / "bob" / "small.mp4", 1.5, faces=(still(100, 60, 90),))
    film(footage / "bob" / "silent.mp4", 1.5, sounds=[0 * hum(1.5)])
    film(footage / "bob" / "no sound.mp4", 1.5, sounds=[])
    film(footage / "bob" / "two sounds.mp4", 1.5, sounds=[hum(1.5), 0 * hum(1.5)])
    film(footage / "bob" / "short sound.mp4", sounds=[hum(1)])
    film(footage / "bob" / "long sound.mp4", 1.5, sounds=[hum(5)])
    film(footage / "bob" / "dark.mp4", 1.5, faces=(), shade=lambda time: 3)
    film(footage / "bob" / "odd size.mp4", 1.5, size=(321, 241), pixels="yuv444p")
    film(footage / "bob" / "phone.mp4", 1.5, lying=True)
    film(footage / "bob" / "four k.mp4", seconds=1.2, size=(3840, 2160),
         faces=(still(1500, 400, 1400),))  # fmt: skip
    film(footage / "cut" / "shots.mp4", seconds=4,
         faces=(lambda t: (20.0, 10.0, 200.0) if t < 2 else (90.0, 20.0, 210.0),),
         shade=lambda t: 20 if t < 2 else 220)  # fmt: skip
    film(footage / "cut" / "one picture.mp4", seconds=0.04, sounds=[hum(0.04)])
    shutil.copy(footage / "ann" / "good.mp4", footage / "bob" / "again.mp4")
    whole = (footage / "ann" / "good.mp4").read_bytes()
    (footage / "cut" / "truncated.mp4").write_bytes(whole[: len(whole) // 2])
    (footage / "cut" / "empty.mp4").touch()
    (footage / "cut" / "picture.mp4").write_bytes(_png())
    (footage / "cut" / "linked.mp4").symlink_to(film(folder / "far" / "else.mp4", seconds=2.5))
    (footage / "cut" / "broken link.mp4").symlink_to(folder / "nowhere.mp4")
    assert prepare(footage, folder / "dataset") == 0
    return folder / "dataset"


def _png() -> bytes:
    import cv2

    return cv2.imencode(".png", picture_of([(60, 10, 200)], (320, 240)))[1].tobytes()


def test_a_good_video_becomes_a_clip_that_training_reads(prepared: Path):
    listed = {r.path: r for r in read_manifest(prepared / "train.jsonl", prepared)}
    record = listed["clips/ann/good-000000.mp4"]
    assert record.identity == "ann" and record.frames == 75 and record.mouth is not None
    assert record in read_records(prepared, Path("train.jsonl"))
    clip = prepared / record.path
    assert probe_video(clip).fps == 25
    frames, sound = read_video(clip), load_audio(clip)
    assert frames.shape == (75, 256, 256, 3)
    assert abs(len(sound) - 3 * 16000) <= 1024
    mesh = FaceMesh()
    x0, y0, x1, y1 = face_box(mesh.landmarks(frames[40], mesh.faces(frames[40])[0])[0])
    # Framed as mien frames a portrait: half the picture, a little below the middle.
    assert 0.45 < (y1 - y0) / 256 < 0.65
    assert abs((x0 + x1) / 2 - 128) < 8
    assert 0.45 < (y0 + y1) / 512 < 0.65


@pytest.mark.parametrize(
    "source, words",
    [
        ("ann/two faces.mp4", "more than one face"),
        ("bob/small.mp4", "face too small"),
        ("bob/silent.mp4", "silent"),
        ("cut/one picture.mp4", "too short"),
    ],
)
def test_an_unfit_clip_is_rejected_with_its_reason(prepared: Path, source: str, words: str):
    assert words in reasons(records(prepared)[source])


@pytest.mark.parametrize(
    "source, words",
    [
        ("bob/no sound.mp4", "has no audio track"),
        ("bob/dark.mp4", "no face"),
        ("bob/again.mp4", "the same file as ann/good.mp4"),
        ("cut/empty.mp4", "empty"),
        ("cut/truncated.mp4", "cannot be read"),
        ("cut/picture.mp4", "has no audio track"),
        ("cut/broken link.mp4", "no file"),
    ],
)
def test_an_unfit_source_is_said(prepared: Path, source: str, words: str):
    record = records(prepared)[source]
    assert not record["parts"]
    assert words in record["problem"]
    assert str(prepared.parent) not in record["problem"]


@pytest.mark.parametrize(
    "source, note",
    [("bob/two sounds.mp4", "2 audio tracks"), ("bob/short sound.mp4", "ends 2.0 s before")],
)
def test_what_is_odd_is_noted(prepared: Path, source: str, note: str):
    assert note in " ".join(records(prepared)[source]["notes"])


@pytest.mark.parametrize(
    "source",
    [
        "bob/two sounds.mp4",
        "bob/long sound.mp4",
        "bob/odd size.mp4",
        "bob/phone.mp4",
        "bob/four k.mp4",
        "cut/linked.mp4",
    ],
)
def test_odd_but_good_footage_is_accepted(prepared: Path, source: str):
    parts = records(prepared)[source]["parts"]
    assert parts and not any(part["reasons"] for part in parts)


def test_a_body_is_shown_as_high_as_the_picture(tmp_path: Path):
    film(tmp_path / "f" / "ann" / "1.mp4", faces=(still(200, 20, 240),), size=(640, 480))
    asked = [*SHORT, "cut.framing=half_body"]
    assert prepare(tmp_path / "f", tmp_path / "d", *asked) == 0
    [part] = records(tmp_path / "d")["ann/1.mp4"]["parts"]
    left, top, right, bottom = part["square"]
    assert not part["reasons"] and right - left == bottom - top == 480 and top == 0
    assert left <= 300 <= right, "the face is in it"
    lists = [read_manifest(tmp_path / "d" / f"{split}.jsonl") for split in ("train", "valid")]
    assert [record.framing for records in lists for record in records] == ["half_body"]


def test_another_face_finder_can_be_plugged_in(tmp_path: Path):
    film(tmp_path / "f" / "ann" / "1.mp4", faces=(), seconds=1.2, size=(640, 480))
    assert prepare(tmp_path / "f", tmp_path / "d", *SHORT, LAMP_FINDER) == 0
    [part] = records(tmp_path / "d")["ann/1.mp4"]["parts"]
    assert part["frames"] == 30


@pytest.mark.parametrize("name", ["nosuch.Finder", "mien.face.FaceMush", "pathlib.Path", "x"])
def test_a_face_finder_that_is_none_is_told(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    film(tmp_path / "f" / "ann" / "1.mp4", seconds=0.2)
    assert prepare(tmp_path / "f", tmp_path / "d", "--set", f"face_finder={name}") == 1
    assert f"face_finder {name} cannot be used" in capsys.readouterr().err


def test_memory_does_not_grow_with_the_video(tmp_path: Path):
    """Of a video four times as long only a few values per frame are kept."""
    settings = Preparation(cut=Cut(min_seconds=1.0, max_seconds=2.0))
    most = []
    for seconds in (2, 8):
        film(tmp_path / f"{seconds}.mp4", seconds=seconds)
        work = SourceCutter(tmp_path, tmp_path / "d", settings)
        tracemalloc.start()
        outcome = work(Source(f"{seconds}.mp4", "ann", "own"), str(seconds))
        most.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert sum(part.frames for part in outcome.parts) == seconds * 25
    frame = 320 * 240 * 3
    assert most[1] - most[0] < 10 * frame, "150 more frames"


def test_a_cut_before_one_wall_parts_a_video(tmp_path: Path):
    """The wall stays, the face jumps a third of its height."""
    film(tmp_path / "f" / "ann" / "1.mp4", seconds=4,
         faces=(lambda t: (60.0, 10.0, 200.0) if t < 2 else (90.0, 12.0, 200.0),))  # fmt: skip
    assert prepare(tmp_path / "f", tmp_path / "d") == 0
    parts = records(tmp_path / "d")["ann/1.mp4"]["parts"]
    assert [(part["first"], part["frames"]) for part in parts] == [(0, 50), (50, 50)]


@pytest.mark.footage
def test_a_cut_from_one_real_speaker_to_another_parts_a_video(footage: Path):
    names = ["grid_s30", "grid_s1", "grid_s29", "grid_s2", "grid_s3"]
    clips = [read_video(next((footage / "train").glob(f"{name}_*.mp4")))[:10] for name in names]
    watched = FaceTracker(FaceMesh(), 5).watch(iter(np.concatenate(clips)))
    assert [(track.first, len(track)) for track in watched.tracks] == [
        (10 * i, 10) for i in range(len(names))
    ]


def test_small_faces_in_large_pictures_are_seen(tmp_path: Path):
    film(tmp_path / "f" / "ann" / "1.mp4", seconds=1.2, size=(1920, 1080),
         faces=(still(500, 300, 250),))  # fmt: skip
    assert prepare(tmp_path / "f", tmp_path / "d") == 0
    [part] = records(tmp_path / "d")["ann/1.mp4"]["parts"]
    assert 95 < part["measures"]["face"] < 120 and not part["reasons"]


def test_a_clip_ends_where_its_sound_does(prepared: Path):
    [part] = records(prepared)["bob/short sound.mp4"]["parts"]
    assert 24 <= part["frames"] <= 27


def test_one_damaged_place_does_not_end_a_video(tmp_path: Path):
    path = film(tmp_path / "f" / "ann" / "1.mp4", seconds=8)
    data = bytearray(path.read_bytes())
    middle = len(data) // 3
    data[middle : middle + 1500] = np.random.default_rng(0).bytes(1500)
    path.write_bytes(data)
    assert prepare(tmp_path / "f", tmp_path / "d") == 0
    record = records(tmp_path / "d")["ann/1.mp4"]
    assert "packets" in " ".join(record["notes"])
    assert sum(part["frames"] for part in record["parts"]) > 150


def test_what_is_known_of_a_source_may_be_damaged_or_of_another_version(tmp_path: Path):
    film(tmp_path / "f" / "ann" / "1.mp4", seconds=1.2)
    assert prepare(tmp_path / "f", tmp_path / "d") == 0
    before = (tmp_path / "d" / "records.jsonl").read_bytes()
    [done] = (tmp_path / "d" / ".done").glob("*.json")
    for wrong in ("", '{"mark": 1}', done.read_text(encoding="utf-8").replace('"pauses"', '"p"')):
        done.write_text(wrong, encoding="utf-8")
        assert prepare(tmp_path / "f", tmp_path / "d") == 0
        assert (tmp_path / "d" / "records.jsonl").read_bytes() == before


def test_the_footage_is_no_data_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    film(tmp_path / "f" / "ann" / "1.mp4", seconds=0.2)
    assert prepare(tmp_path / "f", tmp_path / "f") == 1
    assert "a folder of its own" in capsys.readouterr().err
    assert [p.name for p in (tmp_path / "f").iterdir()] == ["ann"]


def test_a_changed_source_leaves_no_old_clip(tmp_path: Path):
    film(tmp_path / "f" / "ann" / "1.mp4", seconds=1.2)
    assert prepare(tmp_path / "f", tmp_path / "d") == 0
    film(tmp_path / "f" / "ann" / "1.mp4", seconds=1.2, faces=())
    assert prepare(tmp_path / "f", tmp_path / "d") == 0
    assert not list((tmp_path / "d").rglob("*.mp4")) and not list((tmp_path / "d").rglob("*.jpg"))


def test_a_cut_between_shots_parts_a_video(prepared: Path):
    parts = records(prepared)["cut/shots.mp4"]["parts"]
    assert [(part["first"], part["frames"]) for part in parts] == [(0, 50), (50, 50)]


def test_every_part_has_a_strip(prepared: Path):
    from PIL import Image

    parts = [part for record in records(prepared).values() for part in record["parts"]]
    assert any(part["reasons"] for part in parts) and any(not part["reasons"] for part in parts)
    for part in parts:
        strip = np.asarray(Image.open(prepared / "strips" / f"{part['name']}.jpg"))
        assert strip.shape == (96, 288, 3) and strip.std() > 10


def test_nothing_half_written_stays(prepared: Path):
    assert not list(prepared.rglob(".*.part*"))
    listed = {r.path for r in read_manifest(prepared / "train.jsonl")}
    assert listed <= {p.relative_to(prepared).as_posix()
                      for p in (prepared / "clips").rglob("*.mp4")}  # fmt: skip


def test_faces_of_the_clips_are_fitted_once(tmp_path: Path):
    film(tmp_path / "footage" / "ann" / "good.mp4")
    asked = [*SHORT, "--fit-faces", str(tmp_path / "faces")]
    assert prepare(tmp_path / "footage", tmp_path / "dataset", *asked) == 0
    (clip,) = read_records(tmp_path / "dataset", Path("train.jsonl"))
    faces = FaceCache(tmp_path / "dataset", tmp_path / "faces").read(clip)
    assert faces is not None and len(faces) == clip.frames
    (fit,) = (tmp_path / "faces").rglob("*.npz")
    before = fit.stat().st_mtime_ns
    assert prepare(tmp_path / "footage", tmp_path / "dataset", *asked) == 0
    assert fit.stat().st_mtime_ns == before


def test_a_second_run_changes_nothing(prepared: Path):
    before = {p: p.stat().st_mtime_ns for p in (prepared / "clips").rglob("*.mp4")}
    lists = [(prepared / n).read_bytes() for n in ("train.jsonl", "valid.jsonl", "records.jsonl")]
    assert prepare(prepared.parent / "footage", prepared) == 0
    assert before == {p: p.stat().st_mtime_ns for p in (prepared / "clips").rglob("*.mp4")}
    assert lists == [
        (prepared / n).read_bytes() for n in ("train.jsonl", "valid.jsonl", "records.jsonl")
    ]


def test_other_numbers_need_another_folder(prepared: Path, capsys: pytest.CaptureFixture[str]):
    assert prepare(prepared.parent / "footage", prepared, "--set", "cut.size=128") == 1
    assert "other settings" in capsys.readouterr().err


def test_a_killed_run_goes_on_in_two_processes_to_the_same_bytes(prepared: Path, tmp_path: Path):
    output = tmp_path / "d"
    command = [sys.executable, "-m", "mien", "prepare", str(prepared.parent / "footage"),
               "-o", str(output), *SHORT]  # fmt: skip
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as run:
        while len(list((output / ".done").glob("*.json"))) < 3:
            assert run.poll() is None
            time.sleep(0.05)
        os.kill(run.pid, signal.SIGKILL)
    assert not (output / "records.jsonl").exists()
    assert prepare(prepared.parent / "footage", output, "--workers", "2", *SHORT) == 0
    for name in ("train.jsonl", "valid.jsonl", "records.jsonl"):
        assert (output / name).read_bytes() == (prepared / name).read_bytes()
    for clip in (prepared / "clips").rglob("*.mp4"):
        twin = output / "clips" / clip.relative_to(prepared / "clips")
        assert twin.read_bytes() == clip.read_bytes()


def test_two_runs_do_not_write_into_one_data_set(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    film(tmp_path / "f" / "ann" / "good.mp4", seconds=1.2)
    assert prepare(tmp_path / "f", tmp_path / "d") == 0
    before = (tmp_path / "d" / "records.jsonl").read_bytes()
    with FileLock(tmp_path / "d" / ".done" / "lock"):
        (tmp_path / "d" / "clips" / ".theirs.part").touch()
        assert prepare(tmp_path / "f", tmp_path / "d") == 1
        assert "another run prepares" in capsys.readouterr().err
        assert (tmp_path / "d" / "clips" / ".theirs.part").exists()
    assert prepare(tmp_path / "f", tmp_path / "d") == 0
    assert not (tmp_path / "d" / "clips" / ".theirs.part").exists()
    assert (tmp_path / "d" / "records.jsonl").read_bytes() == before


def test_a_video_that_changes_its_size_is_good_up_to_there(tmp_path: Path):
    parts = [film(tmp_path / f"{i}.ts", 2, size=size).read_bytes()
             for i, size in enumerate([(320, 240), (400, 300)])]  # fmt: skip
    (tmp_path / "f" / "ann").mkdir(parents=True)
    (tmp_path / "f" / "ann" / "call.ts").write_bytes(b"".join(parts))
    assert prepare(tmp_path / "f", tmp_path / "d") == 0
    record = records(tmp_path / "d")["ann/call.ts"]
    [part] = record["parts"]
    assert 45 <= part["frames"] <= 50 and not part["reasons"]
    assert "changes the size of its picture" in "; ".join(record["notes"])


def test_a_full_disk_ends_the_run_in_one_sentence(tmp_path: Path):
    film(tmp_path / "f" / "ann" / "good.mp4")
    output = tmp_path / "d"
    command = [sys.executable, "-m", "mien", "prepare", str(tmp_path / "f"), "-o", str(output)]

    def small_disk() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    done = subprocess.run(
        [*command, *SHORT], capture_output=True, text=True, preexec_fn=small_disk, timeout=120
    )
    assert done.returncode == 1
    assert "cannot be written" in done.stderr and "Traceback" not in done.stderr
    assert not (output / "records.jsonl").exists() and not list(output.rglob("*.mp4"))
    assert prepare(tmp_path / "f", output) == 0
    assert len(read_manifest(output / "train.jsonl")) == 1


def test_two_people_give_one_to_validation(tmp_path: Path):
    for name in ("ann", "bob"):
        film(tmp_path / "f" / name / "1.mp4", faces=(still(60, 10 + len(name)),),
             sounds=[hum(3) * (0.9 if name == "ann" else 1.0)])  # fmt: skip
    assert prepare(tmp_path / "f", tmp_path / "d", "--set", "cut.min_seconds=1") == 0
    people = [{r.identity for r in read_manifest(tmp_path / "d" / f"{n}.jsonl")}
              for n in ("train", "valid")]  # fmt: skip
    assert sorted(map(len, people)) == [1, 1] and people[0] | people[1] == {"ann", "bob"}


def test_the_page_shows_both_verdicts(prepared: Path, tmp_path: Path):
    assert inspect_dataset.main([str(prepared), "-o", str(tmp_path / "page.html")]) == 0
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    parts = [part for record in records(prepared).values() for part in record["parts"]]
    assert page.count("<img ") == len(parts)
    assert page.count("<svg ") >= 10
    for words in ("more than one face", "the same file as", "2 audio tracks", "ann"):
        assert words in page
    assert inspect_dataset.main([str(tmp_path)]) == 1


def test_landmarks_map_onto_each_other(prepared: Path):
    """Where the face was in the source is where it is in the clip, within a pixel."""
    record = records(prepared)["ann/near the border.mp4"]
    part = record["parts"][0]
    left, top, right, _ = part["square"]
    assert left < 0 and top < 0, "the square leaves the picture"
    mesh = FaceMesh()
    clip = read_video(prepared / "clips" / f"{part['name']}.mp4")
    source = list(pictures_on_grid(prepared.parent / "footage" / "ann" / "near the border.mp4"))
    # The mesh is asked at the same place in both, so that its own trembling is not measured.
    face = mesh.faces(source[30])[0]
    before = mesh.landmarks(source[30], face)[0][:, :2]
    scale = 256 / (right - left)
    expected = (before - (left, top)) * scale
    after = mesh.landmarks(clip[30], mesh.faces(clip[30])[0])[0][:, :2]
    assert np.abs(after - expected).mean() < 1
    assert abs(expected[:, 0].mean() - 128) < 10, "the face stays in the middle"


def test_sound_that_is_cut_starts_with_its_pictures(tmp_path: Path):
    """The second part of a long video has the second part of the sound."""
    sound = hum(6)
    film(tmp_path / "f" / "ann" / "long.mp4", seconds=6, sounds=[sound])
    main([str(tmp_path / "f"), "-o", str(tmp_path / "d"), "--set", "cut.max_seconds=3",
          "valid_share=0", "shift_sound=false", "limits.max_audio_offset=null"])  # fmt: skip
    assert [r.frames for r in read_manifest(tmp_path / "d" / "train.jsonl")] == [75, 75]
    second = load_audio(tmp_path / "d" / "clips" / "ann" / "long-000075.mp4")
    wanted = torch.from_numpy(sound[3 * 48000 :: 3].copy())
    length = min(len(second), len(wanted))
    level = [x[:length].unfold(0, 160, 160).square().mean(1).sqrt() for x in (second, wanted)]
    assert np.corrcoef(*level)[0, 1] > 0.98
