"""The engine compile renders torch's frames, and says in a sentence why it cannot."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mien.devices import CPU, CUDA
from mien.engines import choose_engine, converted, slower
from mien.engines.compile import missing_compiler
from mien.engines.example import example
from mien.errors import UserError
from tests.conftest import ROOT
from tests.portrait.tiny import tiny_animator


@pytest.fixture
def without_compiler(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")


@pytest.mark.timeout(1800)  # a minute or two of computation, which may wait for others
def test_frames_are_those_of_torch():
    """In a process without the checks of shapes, which torch does not compile."""
    if problem := missing_compiler(CPU):
        pytest.skip(problem)
    command = [sys.executable, "-m", "tests.engines.compiled"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["compiled"] == 1, "the part of a chunk needs no other graph"
    assert found["frames"] == [1, 11, 3, 64, 64] and found["error"] < 1e-4
    assert found["drawn"] == [1, 3, 3, 64, 64] and found["drawn_error"] == 0


def test_without_a_compiler_it_is_refused(without_compiler):
    animator = tiny_animator(temporal_kernel=1)
    with pytest.raises(UserError, match="needs a C.. compiler, and there is no no-such-compiler"):
        choose_engine(animator, forced="compile")


def test_a_torch_in_a_folder_with_a_space_is_refused(monkeypatch):
    monkeypatch.setenv("CXX", sys.executable)
    monkeypatch.setattr("mien.engines.compile.TORCH", Path("/opt/my tools/torch"))
    assert str(missing_compiler(CPU)).endswith(
        "no paths with spaces, and lies in /opt/my tools/torch"
    )
    monkeypatch.setattr("mien.engines.compile.TORCH", Path("/opt/tools/torch"))
    assert missing_compiler(CPU) is None


def test_a_net_that_torch_cannot_compile_is_one_sentence():
    if problem := missing_compiler(CPU):
        pytest.skip(problem)
    animator = tiny_animator(temporal_kernel=1).eval()
    net = animator.deviation_transformer
    net.forward = torch.compiler.disable(net.forward)
    with torch.inference_mode():
        source, motion, _ = example(animator, 1)
        render = choose_engine(animator, forced="compile").render
        with pytest.raises(UserError, match=r"torch cannot compile .*: give --engine torch$"):
            render(source, motion)


def test_it_is_only_used_where_it_is_named():
    animator = tiny_animator(temporal_kernel=1)
    assert choose_engine(animator).what.startswith("torch")
    assert slower("compile", animator) and not converted("compile", animator)


def test_a_net_that_convolves_over_frames_is_refused():
    if problem := missing_compiler(CPU):
        pytest.skip(problem)
    with pytest.raises(UserError, match="convolves over frames"):
        choose_engine(tiny_animator(), forced="compile")


def test_a_gpu_needs_triton(monkeypatch):
    monkeypatch.setitem(sys.modules, "triton", None)
    assert "triton, which is not installed" in str(missing_compiler(CUDA))
    assert "needs --device cpu or cuda" in str(missing_compiler("mps"))
