"""The graphs of `mien export` compute what the nets do, also at sizes they were not traced with."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from mien.audio.features import STEPS_PER_FRAME
from mien.cli import main
from mien.engines import choose_engine, converted
from mien.engines.cache import cache_folder, graph_name, write_folder
from mien.engines.graph import Graph
from mien.engines.graphs import AudioGraph, DenoiserGraph, graphs
from mien.kinds import fingerprint
from mien.ops.selective_scan import selective_scan
from mien.session.session import load_models
from tests.engines.speaking import guides, speaking

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

from mien.engines.onnxruntime import graph_folder  # noqa: E402


@pytest.fixture(scope="module")
def nets(shipped):
    return load_models(device=torch.device("cpu"))


@pytest.fixture(scope="module")
def exported(nets) -> Path:
    """What `mien export` writes of the shipped weights, in a process without the checks of shapes,
    which do not know sizes that are symbols; kept for the next run of the tests.
    """
    folder = cache_folder() / graph_name(nets[0], fingerprint(nets[1].state_dict()), "exported")
    if not folder.is_dir():
        command = [sys.executable, "-m", "mien", "export", "--onnx"]
        assert write_folder(
            folder, lambda there: subprocess.run([*command, str(there)], check=True)
        )
    return folder


def graph_and_session(name: str, nets, folder: Path) -> tuple[Graph, Any]:
    return graphs(*nets)[name](), onnxruntime.InferenceSession(folder / f"{name}.onnx")


def run(session, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    taken = {value.name: inputs[value.name].numpy() for value in session.get_inputs()}
    names = [value.name for value in session.get_outputs()]
    results = session.run(None, taken)
    return {name: torch.from_numpy(x) for name, x in zip(names, results, strict=True)}


def assert_near(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_the_appearance_graph_gives_what_rendering_takes(nets, exported):
    graph, session = graph_and_session("appearance", nets, exported)
    found = run(session, graph.inputs)
    expected = graph.net.named(graph.inputs["picture"])
    assert found.keys() == expected.keys() and "source.field.at_rest" in found
    for name, tensor in expected.items():
        assert_near(found[name], tensor)


@torch.no_grad()
def test_the_motion_encoder_takes_any_number_of_pictures(nets, exported):
    _, session = graph_and_session("motion_encoder", nets, exported)
    pictures = torch.rand(3, 3, 256, 256) * 2 - 1
    assert session.get_inputs()[0].shape == ["b", 3, 256, 256]
    assert_near(run(session, {"picture": pictures})["motion"], nets[0].encode_motion(pictures))


@torch.no_grad()
def test_the_audio_encoder_takes_any_length(nets, exported):
    graph, session = graph_and_session("audio_encoder", nets, exported)
    assert isinstance(graph.net, AudioGraph)
    assert session.get_outputs()[1].shape == [1, "t", nets[1].config.audio_width]
    features = torch.randn(1, 60 * STEPS_PER_FRAME, nets[1].config.front_end.dims)
    found, expected = run(session, {"features": features}), nets[1].encode_audio(features)
    assert_near(found["whole"], expected.whole)
    assert_near(found["local"], expected.local)


@torch.no_grad()
@pytest.mark.parametrize("known", [True, False])
def test_the_denoiser_takes_any_window_with_audio_and_without(known, nets, exported):
    graph, session = graph_and_session("denoiser", nets, exported)
    assert isinstance(graph.net, DenoiserGraph)
    inputs = {**graph.inputs, "audio_known": torch.tensor([known])}
    for name in ("mixture", "local"):
        inputs[name] = inputs[name][:, :40]
    found = run(session, inputs)
    for name, tensor in zip(("clean", "motion"), graph.net(*inputs.values()), strict=True):
        assert_near(found[name], tensor)


def test_onnx_runtime_renders_the_frames_of_torch(exported, tmp_path, monkeypatch):
    real = speaking()
    monkeypatch.setenv("MIEN_CACHE", str(tmp_path))
    assert not converted("onnxruntime", real.animator)
    folder = graph_folder(real.animator, guided=True)
    folder.mkdir()
    (folder / "render.onnx").write_bytes((exported / "render.onnx").read_bytes())
    assert converted("onnxruntime", real.animator)
    render = choose_engine(real.animator, forced="onnxruntime").render
    frames = render(real.source, real.motion, real.guide)
    torch.testing.assert_close(frames, real.frames, rtol=0, atol=1e-4)
    one = slice(4, 5)
    alone = render(real.source, real.motion[:, one], guides(real.guide, one))
    torch.testing.assert_close(alone, real.frames[:, one], rtol=0, atol=1e-4)


def test_each_graph_says_of_which_weights_it_is(nets, exported):
    model = onnx.load(exported / "motion_encoder.onnx")
    onnx.checker.check_model(model)
    told = {prop.key: prop.value for prop in model.metadata_props}
    assert told["mien.fingerprint"] == fingerprint(nets[0].state_dict())
    assert told["mien.graph"] == "motion_encoder" and told["mien.kind"] == "animator"
    assert json.loads(told["mien.config"])["image_size"] == nets[0].config.image_size
    told = {prop.key: prop.value for prop in onnx.load(exported / "denoiser.onnx").metadata_props}
    assert json.loads(told["mien.sampling"])["steps"] == nets[1].sampling.steps


def test_a_folder_with_graphs_is_not_overwritten_unless_asked(tmp_path, capsys):
    (tmp_path / "render.onnx").write_bytes(b"earlier")
    assert main(["export", "--onnx", str(tmp_path)]) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert main(["export", "--onnx", str(tmp_path / "render.onnx")]) == 1
    assert "is a file" in capsys.readouterr().err
    assert (tmp_path / "render.onnx").read_bytes() == b"earlier"


def test_the_scan_of_graphs_is_the_selective_scan():
    u, delta, z = torch.randn(3, 2, 6, 37).unbind()
    B, C = torch.randn(2, 2, 2, 4, 37).unbind()  # two groups of channels
    A, D, state = -torch.rand(6, 4), torch.randn(6), torch.randn(2, 6, 4)
    both = [
        selective_scan(
            u, delta, A, B, C, D, z, D, True, True, initial_state=state, back_end=back_end
        )
        for back_end in ("doubling", "reference")
    ]
    torch.testing.assert_close(*both, rtol=1e-5, atol=1e-5)
