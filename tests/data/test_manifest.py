"""Every mistake in a manifest is said with its file and line."""

import json
from pathlib import Path

import pytest

from mien.data.manifest import ClipRecord, read_manifest, write_manifest
from mien.errors import UserError

GOOD = {
    "path": "ann/01.mp4",
    "identity": "ann",
    "licence": "ccby",
    "seconds": 2.96,
    "frames": 74,
    "mouth": [0.4, 0.6, 0.6, 0.8],
}


def manifest(folder: Path, *lines: object) -> Path:
    path = folder / "clips.jsonl"
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("\n".join(texts) + "\n", encoding="utf-8")
    return path


def test_what_is_written_is_read(tmp_path):
    records = [
        ClipRecord("ann/01.mp4", "ann", "ccby", 2.96, 74, (0.4, 0.6, 0.6, 0.8)),
        ClipRecord("zoë's/été 2.mp4", "zoë", "own", 1.0, 25, None),
        ClipRecord("bob/3.mp4", "bob", "own", 1.0, 25, None, framing="half_body"),
    ]
    write_manifest(tmp_path / "clips.jsonl", records)
    assert read_manifest(tmp_path / "clips.jsonl") == records
    assert [path.name for path in tmp_path.iterdir()] == ["clips.jsonl"]


def test_empty_lines_are_skipped_and_mouth_may_be_left_out(tmp_path):
    short = {key: value for key, value in GOOD.items() if key != "mouth"}
    (record,) = read_manifest(manifest(tmp_path, "", short, "  "))
    assert record.mouth is None and record.framing == "face"


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"speaker": "ann"}, "unknown key 'speaker': the keys are path, identity"),
        ({"seconds": "3"}, "seconds '3' must be a number"),
        ({"seconds": -1}, "seconds -1.0 must be above 0"),
        ({"seconds": True}, "seconds True must be a number"),
        ({"frames": 7.5}, "frames 7.5 must be a whole number"),
        ({"frames": 0}, "frames 0 must be at least 1"),
        ({"framing": "portrait"}, "framing 'portrait' must be one of face, half_body"),
        ({"identity": 3}, "identity 3 must be text"),
        ({"identity": ""}, "identity is empty"),
        ({"path": "/data/a.mp4"}, "'/data/a.mp4' must be relative"),
        ({"path": "a/../../b.mp4"}, "must stay inside the data root"),
        ({"mouth": [0.1, 0.2, 0.3]}, "must be four numbers"),
        ({"mouth": [0.4, 0.6, 1.2, 0.8]}, "within 0 and 1"),
        ({"mouth": [0.6, 0.6, 0.4, 0.8]}, "x0 < x1"),
        ({"mouth": ["a", 0.6, 0.4, 0.8]}, "mouth 'a' must be a number"),
    ],
)
def test_a_bad_value_is_named_with_file_and_line(tmp_path, change: dict, complaint: str):
    path = manifest(tmp_path, {**GOOD, "path": "first.mp4"}, {**GOOD, **change})
    with pytest.raises(UserError) as error:
        read_manifest(path)
    assert str(error.value).startswith(f"{path}:2: ") and complaint in str(error.value)


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("{", "not JSON"),
        ("[1, 2]", "is not an object"),
        ('{"path": "a.mp4"}', "the key 'identity' is missing"),
        ({**GOOD, "seconds": float("nan")}, "seconds nan must be above 0"),
    ],
)
def test_a_bad_line_is_named(tmp_path, line: object, complaint: str):
    with pytest.raises(UserError, match=rf"clips\.jsonl:1: .*{complaint}"):
        read_manifest(manifest(tmp_path, line))


def test_a_clip_that_stands_twice_is_named(tmp_path):
    with pytest.raises(UserError, match=r":3: ann/01\.mp4 is in line 1 too"):
        read_manifest(manifest(tmp_path, GOOD, {**GOOD, "path": "b.mp4"}, GOOD))


def test_with_a_root_the_clips_must_be_there(tmp_path):
    path = manifest(tmp_path, GOOD)
    with pytest.raises(UserError, match=r":1: no file .*ann/01\.mp4"):
        read_manifest(path, tmp_path)
    (tmp_path / "ann").mkdir()
    (tmp_path / "ann" / "01.mp4").write_bytes(b"x")
    assert len(read_manifest(path, tmp_path)) == 1


def test_no_manifest_is_said(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        read_manifest(tmp_path / "none.jsonl")
    (tmp_path / "bytes.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="cannot be read"):
        read_manifest(tmp_path / "bytes.jsonl")


def test_a_manifest_that_cannot_be_written_leaves_nothing(tmp_path):
    with pytest.raises(UserError, match="cannot be written"):
        write_manifest(tmp_path / "none" / "clips.jsonl", [])
    assert list(tmp_path.iterdir()) == []
