"""The two benchmarks of the data run on drawn clips and print what was measured."""

import re
from pathlib import Path

import pytest
import torch

from mien.data.drawn import write_clips
from tests.prepare.footage import film
from tests.tools import load_tool


@pytest.fixture(autouse=True)
def _threads():
    """They measure on one thread."""
    yield
    torch.set_num_threads(1)


def test_what_reading_and_learning_cost(tmp_path: Path, shipped: tuple[Path, Path], capsys):
    write_clips(tmp_path, "train", people=1, clips=2, frames=90, size=64, seed=0)
    asked = [str(tmp_path), "train.jsonl", "--size", "64", "--pairs", "8"]
    assert load_tool("benchmark_data").main(asked) == 0
    said = capsys.readouterr().out
    kilobytes = sum(p.stat().st_size for p in tmp_path.rglob("*.mp4")) / 7.2 / 1e3
    assert f"clips    2, 7 s, {kilobytes:.1f} KB a second" in said
    reading = re.search(r"reading a pair: (\S+) ms, (\S+) pairs a second", said)
    assert reading and float(reading[1]) * float(reading[2]) == pytest.approx(1000, rel=0.05)
    assert re.search(r"augmenting a pair: \d+\.\d ms", said)
    assert re.search(r"a window of motion and sound, of clips of 3\.6 s: \d+\.\d ms", said)
    costs = r"of the animator: small (.*), base (.*), paper (.*) GFLOP\n(?s:.*)backward: (.*) GFLOP"
    found = re.search(costs, said)
    assert found and 1 < float(found[4]) < float(found[1]) < float(found[2]) < float(found[3])


def test_where_the_time_of_a_preparation_goes(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    film(tmp_path / "somebody.mp4", 3)
    assert load_tool("benchmark_prepare").main([str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "1 videos, 3 s with faces, 1 clips" in said
    shares = [int(share) for share in re.findall(r"(\d+) %", said)]
    assert len(shares) >= 4 and 90 <= sum(shares) <= 102


def test_footage_without_a_face_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    film(tmp_path / "nobody.mp4", 1, faces=())
    assert load_tool("benchmark_prepare").main([str(tmp_path)]) == 1
    assert "no face was seen in 1 videos" in capsys.readouterr().err
