"""The README keeps its word: commands exist, links lead somewhere, figures have their commands."""

import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, flags=re.DOTALL)
COMMANDS = [
    line.split("#")[0].strip()
    for kind, block in BLOCKS
    if kind == "sh"
    for line in block.splitlines()
    if line.strip()
]


def test_links_lead_somewhere():
    targets = re.findall(r"\]\(([^)#]+)\)", README)
    missing = [t for t in targets if "://" not in t and not (ROOT / t).exists()]
    # Made when the weights are trained; the tests of the weights ask for them.
    late = {"src/mien/assets/demo_strip.png", "src/mien/weights/MODEL_CARD.md"}
    weights = (ROOT / "src/mien/weights/animator.safetensors").exists()
    assert not set(missing) - (set() if weights else late)


def test_every_make_target_that_is_named_exists():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    texts = README + (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = set(re.findall(r"(?:^|`)make ([a-z-]+)", texts, flags=re.MULTILINE))
    assert {"demo", "test"} <= named <= targets


def test_continuous_integration_runs_exactly_make_test():
    script = (ROOT / ".ci" / "run").read_text()
    assert "set -euo pipefail" in script
    commands = [line for line in script.splitlines() if line and not line.startswith(("#", "set "))]
    assert [line for line in commands if not line.startswith("cd ")] == ["make test"]


def test_every_script_that_is_named_exists():
    scripts = set(re.findall(r"python (tools/\S+\.py)", README))
    assert len(scripts) >= 4
    for script in scripts:
        assert (ROOT / script).exists(), script


@pytest.mark.parametrize("script", sorted(p.name for p in (ROOT / "tools").glob("*.py")))
def test_every_tool_explains_itself(script, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", [script, "--help"])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(ROOT / "tools" / script), run_name="__main__")
    assert not end.value.code
    assert "usage:" in capsys.readouterr().out


def test_a_tool_runs_in_an_interpreter_and_a_folder_of_its_own(tmp_path):
    command = [sys.executable, str(ROOT / "tools" / "measure_offsets.py"), "--help"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and "usage:" in done.stdout, done.stderr


def test_every_option_that_is_named_exists(capsys):
    from mien.infer import parser

    known = {option for action in parser()._actions for option in action.option_strings}
    table = README.split("## Your own voice")[1].split("While nobody speaks")[0]
    named = set(re.findall(r"(--[a-z][a-z-]*)", table))
    assert named and named <= known
    # What --help lists, the README tells.
    assert {o for o in known if o.startswith("--")} - {"--help", "--output"} <= named


def test_configs_that_are_named_exist():
    for config in set(re.findall(r"--config (\S+\.yaml)", README)):
        assert (ROOT / "configs" / config).exists(), config


def test_help_of_make_lists_the_targets():
    if shutil.which("make") is None:
        pytest.skip("no make on this machine")
    printed = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, timeout=60).stdout
    targets = "demo test inputs test-gpu format lint types check hooks clean"
    for target in targets.split():
        assert f"make {target}" in printed


def test_reading_order_and_table_name_real_files():
    for path in re.findall(r"`((?:\w+/)+\w+\.py)`", README):
        assert (
            (ROOT / "src/mien" / path).exists()
            or (ROOT / path).exists()
            or (Path(path).parts[0] == "tools")
        ), path
