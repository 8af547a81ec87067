"""The two benchmarks of the data run on drawn clips and print what was measured."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mien.data.drawn import write_clips
from tests.prepare.footage import film
from tests.tools import TOOLS, load_tool


@pytest.fixture(autouse=True)
def _threads():
    """They measure on one thread."""
    yield
    torch.set_num_threads(1)


def test_every_way_of_storing_is_read(tmp_path: Path, shipped: tuple[Path, Path]):
    write_clips(tmp_path, "train", people=1, clips=2, frames=90, size=64, seed=0)
    # As a process of its own: litdata hands its work to others, which import what was started.
    command = [sys.executable, TOOLS / "benchmark_data.py", tmp_path, "train.jsonl"]
    options = ["--size", "64", "--pairs", "8"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=True)
    rows = {line[:36].strip(): line[36:].split() for line in done.stdout.splitlines()}
    for way in load_tool("benchmark_data").WAYS:
        library = next((name for name in ("litdata", "WebDataset") if name in way), None)
        if library and importlib.util.find_spec(library.lower()) is None:
            assert rows[way][1:] == ["is", "not", "installed"]
        else:
            assert all(float(number) > 0 for number in rows[way]) and len(rows[way]) == 3
    # What is stored is what is counted: coarser seeking takes less room.
    sizes = [float(rows[f"mp4, a key frame in {n}, sought"][2]) for n in (1, 5, 25)]
    assert sizes == sorted(sizes, reverse=True)
    assert re.search(r"a window of motion and sound, of clips of 3\.6 s: \d+\.\d ms", done.stdout)
    said = r"takes the animator small (.*), base (.*), paper (.*) GFLOP\n(?s:.*)takes (.*) GFLOP"
    found = re.search(said, done.stdout)
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
