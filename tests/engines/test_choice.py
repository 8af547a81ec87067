"""What renders where an engine or the folder of its graphs cannot be used."""

import os
import sys
import time
import types
from pathlib import Path

import pytest
import torch

from mien.devices import AUTO, ENGINES, FULL, MIXED
from mien.engines import RENDERING, choose_engine
from mien.engines.cache import cache_folder, is_kept, write_folder
from mien.errors import UserError
from mien.ops import back_ends
from tests.engines.speaking import decibels
from tests.portrait.tiny import tiny_animator


def test_an_openvino_without_a_working_plug_in_is_passed_over(monkeypatch):
    def broken() -> bool:
        raise RuntimeError("Cannot load library libopenvino_intel_cpu_plugin.so")

    module = types.ModuleType("mien.engines.openvino")
    monkeypatch.setattr(module, "has_bfloat16", broken, raising=False)
    monkeypatch.setattr(module, "OpenvinoEngine", None, raising=False)
    monkeypatch.setitem(sys.modules, "mien.engines.openvino", module)
    monkeypatch.setattr(back_ends, "_outcomes", {})
    monkeypatch.delenv("MIEN_ENGINE")
    animator = tiny_animator(temporal_kernel=1)
    with pytest.warns(UserWarning, match="openvino is skipped"):
        assert choose_engine(animator).what.startswith("torch, ")
    with pytest.raises(UserError, match="cannot run on openvino: .*plugin"):
        choose_engine(animator, forced="openvino")


def test_torch_draws_in_bfloat16_by_itself_where_the_processor_has_it(monkeypatch):
    animator, frames = tiny_animator(temporal_kernel=1), {}
    source, motion = torch.rand(1, 3, 64, 64) * 2 - 1, torch.randn(1, 3, 768)
    with torch.inference_mode():
        prepared = animator.prepare_source(animator.encode_appearance(source), motion[:, 0])
        for has in (False, True):
            monkeypatch.setattr("mien.engines.choice.cpu_has_bfloat16", lambda has=has: has)
            for precision in (AUTO, FULL):
                engine = choose_engine(animator, precision, "torch")
                assert engine.what == f"torch, {MIXED if has and precision == AUTO else FULL}"
                frames[has, precision] = engine.render(prepared, motion).float()
    assert not torch.is_autocast_enabled("cpu")
    for same in ((False, AUTO), (True, FULL)):
        assert torch.equal(frames[same], frames[False, FULL])
    assert 30 < decibels(frames[True, AUTO], frames[False, FULL]) < 80


@pytest.mark.parametrize(
    "kind", [{"decoder": "spade", "warped_skips": False}, {"attention_volume": True}, {}]
)
def test_nets_that_are_not_compared_in_bfloat16_stay_in_float32(kind, monkeypatch):
    monkeypatch.setattr("mien.engines.choice.cpu_has_bfloat16", lambda: True)
    animator = tiny_animator(**({"temporal_kernel": 1, **kind} if kind else {}))
    assert bool(kind) or animator.config.temporal_context > 0
    assert choose_engine(animator, AUTO, "torch").what == f"torch, {FULL}"


def test_an_engine_that_is_not_installed_names_the_extra(monkeypatch):
    monkeypatch.setattr(back_ends, "_outcomes", {})
    monkeypatch.delitem(sys.modules, "mien.engines.onnxruntime", raising=False)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match=r"not installed \(pip install \"mien\[onnx\]\"\)"):
        choose_engine(tiny_animator(temporal_kernel=1), forced="onnxruntime")


def test_an_empty_variable_names_no_engine(monkeypatch):
    animator = tiny_animator(temporal_kernel=1)
    monkeypatch.setenv("MIEN_ENGINE", "")
    assert choose_engine(animator, FULL).what == f"torch, {FULL}"  # in which OpenVINO is no faster


def test_a_user_without_a_home_keeps_no_graphs(monkeypatch):
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as for an unknown user
    monkeypatch.delenv("MIEN_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    folder = cache_folder() / "graph"
    assert not is_kept(folder) and not write_folder(folder, lambda there: None)


def test_a_folder_that_cannot_be_reached_has_no_graph(tmp_path):
    assert not is_kept(tmp_path / ("x" * 300))


def test_a_graph_that_cannot_be_written_leaves_nothing(tmp_path):
    def full(there: Path) -> None:
        (there / "0.xml").touch()
        raise RuntimeError("basic_ios::clear: iostream error")  # OpenVINO's where the disk is full

    assert not write_folder(tmp_path / "graph", full)
    assert not list(tmp_path.iterdir())


def test_other_users_can_read_the_graphs_of_a_shared_folder(tmp_path):
    folder = tmp_path / "graph"
    assert write_folder(folder, lambda there: (there / "0.xml").touch()) and is_kept(folder)
    assert folder.stat().st_mode & 0o055 == 0o055
    assert write_folder(folder, lambda there: (there / "1.xml").touch())  # of another process
    assert [path.name for path in tmp_path.rglob("*.xml")] == ["0.xml"]


def test_folders_that_killed_processes_left_are_removed_after_a_day(tmp_path):
    old, new = tmp_path / ".unfinished-old", tmp_path / ".unfinished-new"
    graph = tmp_path / "finished"
    for folder in (old, new, graph):
        folder.mkdir()
        (folder / "0.xml").touch()
    yesterday = time.time() - 25 * 60 * 60
    for folder in (old, graph):
        os.utime(folder, (yesterday, yesterday))
    assert write_folder(tmp_path / "another", lambda there: None)
    assert {path.name for path in tmp_path.iterdir()} == {new.name, graph.name, "another"}


def test_the_option_names_the_engines_there_are():
    assert set(ENGINES) == {back_end.name for back_end in RENDERING.back_ends}
