"""Footage without a sound track is for stage 1, where that is asked for, and stage 2 skips it."""

import json
from pathlib import Path

import pytest

from mien.data.manifest import ClipRecord, parse_record, read_manifest, write_manifest
from mien.data.records import records_of_speech
from mien.data.speech_data import SpeechData
from mien.errors import UserError
from mien.media import read_video
from mien.motion.speech_to_motion import SpeechToMotionConfig
from mien.prepare.command import main
from tests.prepare.footage import film, hum

SHORT = ["--set", "cut.min_seconds=1", "valid_share=0"]


@pytest.fixture(scope="module")
def footage(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("footage")
    film(folder / "ann" / "silent.mp4", seconds=1.2, sounds=[])
    film(folder / "ann" / "spoken.mp4", seconds=1.2, sounds=[hum(1.2)])
    return folder


def test_silent_footage_is_prepared_and_marked(footage: Path, tmp_path: Path):
    assert main([str(footage), "-o", str(tmp_path), *SHORT, "sound=optional"]) == 0
    listed = {Path(r.path).name: r for r in read_manifest(tmp_path / "train.jsonl", tmp_path)}
    assert {name: record.sound for name, record in listed.items()} == {
        "silent-000000.mp4": False,
        "spoken-000000.mp4": True,
    }
    assert len(read_video(tmp_path / listed["silent-000000.mp4"].path)) == 30
    lines = (tmp_path / "train.jsonl").read_text().splitlines()
    assert ['"sound"' in line for line in lines] == [True, False]


def test_without_being_asked_silent_footage_is_rejected(footage: Path, tmp_path: Path):
    assert main([str(footage), "-o", str(tmp_path), *SHORT]) == 0
    [silent, _] = map(json.loads, (tmp_path / "records.jsonl").read_text().splitlines())
    assert "has no audio track" in silent["problem"] and "sound=optional" in silent["problem"]
    assert len(read_manifest(tmp_path / "train.jsonl")) == 1


def test_a_wrong_word_is_told(footage: Path, tmp_path: Path, capsys):
    assert main([str(footage), "-o", str(tmp_path), *SHORT, "sound=maybe"]) == 1
    assert "sound maybe must be one of required, optional" in capsys.readouterr().err


def record(name: str, frames: int, sound: bool) -> ClipRecord:
    return ClipRecord(f"{name}.mp4", "ann", "own", frames / 25, frames, sound=sound)


def test_stage_2_leaves_silent_clips_out(tmp_path: Path, capsys, monkeypatch):
    """One sentence for each manifest, however often it is read."""
    records = [record("a", 100, True), record("b", 100, False), record("c", 9, True)]
    for clip in records:
        (tmp_path / clip.path).touch()
    write_manifest(tmp_path / "train.jsonl", records)
    said: list[str] = []
    monkeypatch.setattr("mien.data.speech_data.rank_zero_info", said.append)
    monkeypatch.setattr(SpeechData, "_config", SpeechToMotionConfig(appearance_dim=256, window=64))
    data = SpeechData(root=str(tmp_path))
    for _ in range(2):
        assert data._records(Path("train.jsonl")) == records[:1]
    assert said == ["1 of 3 clips of train.jsonl have no sound: left out"]


def test_nothing_but_silent_clips_is_no_speech():
    with pytest.raises(UserError, match="no clip of train.jsonl has sound"):
        records_of_speech([record("b", 100, False)], Path("train.jsonl"), 64)
    with pytest.raises(UserError, match="no clip of train.jsonl has the 64 frames"):
        records_of_speech([record("c", 9, True)], Path("train.jsonl"), 64)


def test_a_manifest_says_sound_by_true_or_false():
    line = '{"path": "a.mp4", "identity": "a", "licence": "own", "seconds": 1, "frames": 25%s}'
    assert parse_record(line % "").sound and not parse_record(line % ', "sound": false').sound
    with pytest.raises(ValueError, match="sound 'no' must be true or false"):
        parse_record(line % ', "sound": "no"')
