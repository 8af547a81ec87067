"""The motion of many clips: the same bytes whoever extracts it; a damaged clip costs itself."""

from pathlib import Path

import pytest

from mien.checkpoint import ANIMATOR
from mien.data.drawn import write_clips
from mien.data.records import read_records
from mien.data.store import Store
from mien.prepare.motion import extract_motion
from tests.tiny_nets import save_net, tiny_animator
from tests.tools import load_tool

extract_motion_tool = load_tool("extract_motion")


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    write_clips(folder, "train", people=2, clips=2, frames=20, size=64, seed=0)
    return folder


@pytest.fixture(scope="module")
def animator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "animator.safetensors"
    save_net(path, ANIMATOR, tiny_animator())
    return path


def test_processes_write_the_same_bytes(clips: Path, animator: Path, tmp_path: Path):
    records = read_records(clips, Path("train.jsonl"))
    written = []
    for workers in (1, 2):
        cache = Store(tmp_path / str(workers))
        folder, problems = extract_motion(animator, records, Store(clips), cache, workers)
        assert not problems
        written.append({p.name: p.read_bytes() for p in Path(str(folder)).iterdir()})
    assert len(written[0]) == 4 and written[0] == written[1]


def test_a_damaged_clip_costs_itself_and_a_rerun_does_the_rest(
    clips: Path, animator: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    records = read_records(clips, Path("train.jsonl"))
    whole = (clips / records[1].path).read_bytes()
    asked = [str(animator), str(clips), "train.jsonl", "--cache", str(tmp_path / "motion")]
    try:
        (clips / records[1].path).write_bytes(whole[:500])
        assert extract_motion_tool.main(asked) == 1
        said = capsys.readouterr()
        assert "motion of 3 clips" in said.out and records[1].path in said.err
    finally:
        (clips / records[1].path).write_bytes(whole)
    assert extract_motion_tool.main(asked) == 0
    assert "motion of 4 clips" in capsys.readouterr().out
