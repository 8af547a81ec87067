"""`make test-gpu`: its parts run one after the other, whatever happens to one of them."""

import json
import sys
from pathlib import Path

import pytest
import torch

from tests.tiny_nets import save_tiny_pair
from tests.tools import load_tool

ROOT = Path(__file__).parents[1]
JUNIT = (
    '<testsuites><testsuite><testcase name="works" time="1.5"/>'
    '<testcase name="breaks" time="0.25"><failure message="no"/></testcase>'
    '<testcase name="skips" time="0"><skipped/></testcase></testsuite></testsuites>'
)
SKIPPED = '<testsuites><testcase name="skips" time="0"><skipped/></testcase></testsuites>'
SCAN = {"copying_gb_s": 12.5, "rows": [
    {"back_end": "triton", "length": 250, "width": 8, "forward_ms": 0.125, "memory_mb": None}
]}  # fmt: skip


def writes(text: str, status: int = 0, says: str = "") -> str:
    return (
        f"import sys; open(sys.argv[1], 'w').write({text!r}); print({says!r}); sys.exit({status})"
    )


CODES = {
    "kernels": writes(JUNIT, 1, "one test broke"),
    "presets": "import time; print('it hangs', flush=True); time.sleep(60)",
    "tests": writes(SKIPPED),
    "animate": writes('{"32-true: frames": 151}'),
    "speed": "raise SystemError('it dies')",
    "scan": writes(json.dumps(SCAN)),
}


def test_every_part_runs_whatever_became_of_the_one_before(tmp_path, monkeypatch, capsys):
    tool = load_tool("test_gpu")

    def command(name: str, given: object, results: Path) -> list[str]:
        return [sys.executable, "-c", CODES[name], str(results)]

    monkeypatch.setattr(tool, "command", command)
    kept = tmp_path / "report.md"
    asked = ["--device", "cpu", "--timeout", "2", "-o", str(kept), "--parts", *CODES]
    assert tool.main(asked) == 1
    assert capsys.readouterr().err.startswith("error: kernels, presets, tests, speed failed")
    text = kept.read_text()
    rows = dict(line.split(" | ")[:2] for line in text.splitlines() if line.count("|") == 4)
    assert rows["| kernels"] == rows["| speed"] == "exit status 1"
    assert rows["| presets"] == "timeout after 2 s"
    assert rows["| tests"] == "nothing was run"
    assert rows["| animate"] == rows["| scan"] == "passed"
    for figure in (
        "| works, s | 1.5 |",
        "| breaks, s | 0.25 |",
        "| 32-true: frames | 151 |",
        "| triton, length 250, width 8: forward_ms | 0.125 |",
        "| copying_gb_s | 12.5 |",
    ):
        assert figure in text
    for said in ("one test broke", "it hangs", "SystemError: it dies", torch.__version__):
        assert said in text
    assert "skips" not in text and "memory_mb" not in text


def test_the_demo_is_drawn_in_both_precisions(tmp_path):
    animator, speech = save_tiny_pair(tmp_path)
    kept = tmp_path / "report.md"
    asked = ["--device", "cpu", "-o", str(kept), "--parts", "animate"]
    nets = ["--animator", str(animator), "--speech", str(speech)]
    assert load_tool("test_gpu").main([*asked, *nets]) == 0
    text = kept.read_text()
    assert "| animate | passed |" in text
    assert "| 32-true: grey levels from the CPU's frames, mean | 0 |" in text
    assert "| bf16-mixed: seconds of work a second of video | " in text


def test_without_a_gpu_it_is_one_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    kept = tmp_path / "report.md"
    assert load_tool("test_gpu").main(["-o", str(kept)]) == 1
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1 and "sees no GPU" in said[0]
    assert not kept.exists()


@pytest.mark.parametrize("name", ["speed", "speed-bf16", "scan", "animate"])
def test_the_tools_know_the_options_that_they_are_given(name, tmp_path, monkeypatch):
    tool = load_tool("test_gpu")
    given = []
    monkeypatch.setattr(tool, "run", given.append)
    assert tool.main(["--device", "cpu", "--animator", "a", "--speech", "b"]) == 0
    _, path, *arguments = tool.command(name, given[0], tmp_path / "results")
    other = load_tool(Path(path).stem)
    doing = "run" if name == "animate" else "measure"
    monkeypatch.setattr(other, doing, given.append)
    assert other.main(arguments) == 0
    assert given[1].device == "cpu"


@pytest.mark.parametrize("name", ["kernels", "presets", "tests"])
def test_there_are_tests_for_a_gpu_where_it_looks_for_them(name, tmp_path):
    tool = load_tool("test_gpu")
    arguments = tool.command(name, None, tmp_path / "results")
    paths = [ROOT / a for a in arguments if a.startswith("tests")]
    files = [f for p in paths for f in (p.rglob("test_*.py") if p.is_dir() else [p])]
    assert any("pytest.mark.cuda" in file.read_text(encoding="utf-8") for file in files)
