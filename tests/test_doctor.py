"""What `mien doctor` and the scan's benchmark tell is what happens."""

import importlib
import json
import subprocess
import sys
from importlib.util import find_spec

import pytest
import torch

from mien.cli import main
from mien.ops import back_ends
from mien.ops.back_ends import BackEnd
from mien.ops.selective_scan import SELECTIVE_SCAN
from tests.tools import load_tool


@pytest.fixture(autouse=True)
def _as_users_have_it(monkeypatch):
    if find_spec("triton"):
        importlib.import_module("triton")  # which decides at its import whether it interprets
    for variable in ("TRITON_INTERPRET", "MIEN_SCAN", "MIEN_CONV1D", "MIEN_SAMPLING", "MIEN_NORM"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(back_ends, "_outcomes", {})


@pytest.mark.real_world("read-only installations")
def test_every_back_end_is_judged_and_the_one_in_use_is_marked(capsys):
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for operation in (
        "the selective scan",
        "the causal convolution",
        "sampling of maps",
        "group norm",
    ):
        assert any(line.startswith(operation) for line in lines)
    printed = {line[3:].split()[0]: line for line in lines if line[3:17].strip()}
    assert "only if it is named" in printed["compile"] or "no: " in printed["compile"]
    for back_end in SELECTIVE_SCAN.back_ends:
        assert "works (error" in printed[back_end.name] or "no: " in printed[back_end.name]
    if not torch.cuda.is_available():
        assert printed["numba"].startswith("->") and "works" in printed["numba"]


def test_help_does_not_wait_for_torch():
    code = (
        "import sys\nfrom mien.cli import main\n"
        "try: main(['doctor', '--help'])\nexcept SystemExit: print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("usage: mien doctor") and done.stdout.endswith("False\n")


def test_a_back_end_that_computes_something_else_is_not_called_working(capsys, monkeypatch):
    right = SELECTIVE_SCAN.back_ends[-1].load()

    def wrong(inputs):
        y, last = right(inputs)
        return 1.01 * y, last

    others = [b for b in SELECTIVE_SCAN.back_ends if b.name != "numba"]
    swapped = (BackEnd("numba", ("cpu",), lambda: wrong), *others)
    monkeypatch.setitem(vars(SELECTIVE_SCAN), "back_ends", swapped)
    assert main(["doctor"]) == 1
    assert "WRONG: do not use it" in capsys.readouterr().out


def test_the_benchmark_measures_what_agrees(tmp_path, capsys):
    tool = load_tool("benchmark_scan")
    figures = tmp_path / "figures.json"
    arguments = ["--lengths", "1", "60", "--widths", "8", "--back-ends", "numba", "reference"]
    assert tool.main([*arguments, "--device", "cpu", "--json", str(figures)]) == 0
    rows = json.loads(figures.read_text())["rows"]
    assert [(row["length"], row["back_end"]) for row in rows] == [
        (1, "numba"), (1, "reference"), (60, "numba"), (60, "reference")
    ]  # fmt: skip
    for row in rows:
        assert row["error"] < 1e-4 and row["forward_ms"] > 0 and row["both_ms"] > 0
    assert "forward ms" in capsys.readouterr().out
