"""The demo and the speed tool on tiny nets; the demo on the shipped weights where there are any."""

import json

import av
import pytest
import torch

from mien import demo
from mien.devices import cpu_has_bfloat16
from mien.session import session
from tests.test_evaluation import load_tool
from tests.tiny_nets import save_tiny_pair


@pytest.fixture
def tiny_weights(tmp_path, monkeypatch):
    """A working directory, and the tiny pair in place of the weights that ship."""
    monkeypatch.chdir(tmp_path)
    paths = save_tiny_pair(tmp_path)
    monkeypatch.setattr(session, "default_weights", lambda: paths)
    return paths


def seconds_of(path, kind: str) -> float:
    with av.open(str(path)) as container:
        stream = next(stream for stream in container.streams if stream.type == kind)
        return float(stream.duration * stream.time_base)


def test_the_astronaut_speaks_the_sentence(tiny_weights, tmp_path, capsys):
    assert demo.main([]) == 0
    made = tmp_path / "demo.mp4"
    printed = capsys.readouterr().out
    for part in (str(made), "length", "per second of video", "machine", "back ends"):
        assert part in printed
    assert abs(seconds_of(made, "video") - seconds_of(made, "audio")) <= 1 / 25
    assert sorted(path.name for path in tmp_path.glob("*.mp4")) == ["demo.mp4"]


def test_the_demo_replaces_its_own_earlier_result(tiny_weights, tmp_path):
    (tmp_path / "demo.mp4").write_bytes(b"earlier")
    assert demo.main([]) == 0
    assert seconds_of(tmp_path / "demo.mp4", "video") > 1


def test_the_demo_takes_no_arguments(tiny_weights, capsys):
    assert demo.main(["--fast"]) == 1
    assert capsys.readouterr().err.startswith("error: the demo takes no arguments")


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_the_speed_tool_measures_both_nets_and_the_whole(
    tiny_weights, tmp_path, capsys, monkeypatch, precision
):
    from mien.portrait.animator import Animator

    if precision == "bf16-mixed" and not cpu_has_bfloat16():
        pytest.skip("this processor emulates bfloat16, for most of a minute")
    kept, narrow = tmp_path / "speed.json", []
    render = Animator.render_prepared

    def watched(*args, **kwargs):
        narrow.append(torch.is_autocast_enabled("cpu"))
        return render(*args, **kwargs)

    monkeypatch.setattr(Animator, "render_prepared", watched)
    asked = ["--threads", "1", "--device", "cpu", "--precision", precision, "--json", str(kept)]
    assert load_tool("benchmark").main(asked) == 0
    assert narrow[0] == (precision == "bf16-mixed")
    assert set(narrow) == {False, True}  # it compares
    figures = json.loads(kept.read_text())
    assert (figures["device"], figures["precision"]) == ("cpu", precision)
    assert figures["render, GFLOP a frame"] > 0
    assert figures["motion, GFLOP a frame"] > 0
    assert 0 < figures["render, share of that"] < 2
    assert figures["cold start and first video, s"] > 0
    # Timed at different moments: other work may slow down either.
    assert figures["end to end, frames a second"] < 3 * figures["render, frames a second"]
    assert "render, frames a second" in capsys.readouterr().out


def test_the_shipped_demo_is_as_long_as_its_sentence(shipped, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert demo.main([]) == 0
    video = seconds_of(tmp_path / "demo.mp4", "video")
    assert abs(video - seconds_of(tmp_path / "demo.mp4", "audio")) <= 1 / 25
