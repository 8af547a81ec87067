"""The engine openvino renders torch's frames, converts a net once, and says why it cannot."""

import pytest
import torch

from mien.devices import FULL, MIXED
from mien.engines import choose_engine
from mien.errors import UserError
from mien.ops import sampling_numba
from tests.engines.speaking import Speaking, decibels, guides, speaking
from tests.portrait.tiny import awake, pictures, tiny_animator

pytest.importorskip("openvino")

from mien.engines import openvino as engine  # noqa: E402
from mien.engines.openvino import OpenvinoEngine  # noqa: E402


@pytest.fixture(scope="module")
def real() -> Speaking:
    return speaking()


@pytest.fixture(scope="module")
def tiny():
    animator = awake(tiny_animator(temporal_kernel=1))
    with torch.inference_mode():
        source, *driving = pictures(3)[:, None]
        prepared = animator.prepare_source(
            animator.encode_appearance(source), animator.encode_motion(source)
        )
        motion = animator.encode_motion(torch.cat(driving))[None]
        return animator, prepared, motion, animator.render_prepared(prepared, motion)


def said(caplog) -> list[str]:
    """The lines of mien's own log."""
    return [record.message for record in caplog.records if record.name == "mien"]


def test_frames_in_float32_are_those_of_torch(shipped, real):
    render = OpenvinoEngine(real.animator, FULL).render
    frames = render(real.source, real.motion, real.guide)
    torch.testing.assert_close(frames, real.frames, rtol=0, atol=1e-4)


@pytest.mark.skipif(not engine.has_bfloat16(), reason="this processor has no bfloat16 arithmetic")
def test_frames_drawn_in_bfloat16_are_within_45_decibels(shipped, real):
    render = OpenvinoEngine(real.animator).render
    frames = render(real.source, real.motion, real.guide)
    assert decibels(frames, real.frames) >= 45
    assert (frames - real.frames).abs().max() > 1e-4, "nothing was drawn in bfloat16"


def test_no_position_is_computed_in_bfloat16(shipped, real):
    OpenvinoEngine(real.animator).render(real.source, real.motion, real.guide)
    parts = engine._read(engine.graph_folder(real.animator, guided=True))
    assert parts is not None
    kinds = [{node.get_type_name() for node in part.model.get_ops()} for part in parts]
    assert [part.coarse for part in parts] == [False, True, False]
    for part, operations in zip(parts, kinds, strict=True):
        assert part.coarse != ("SampleMaps" in operations or part is parts[-1])
        assert not part.coarse or "Convolution" in operations


def test_a_decoder_draws_in_bfloat16_too(tiny):
    animator, source, motion, _ = tiny
    OpenvinoEngine(animator).render(source, motion)
    parts = engine._read(engine.graph_folder(animator, guided=False))
    assert parts is not None
    assert [part.coarse for part in parts] == [False, True, False, True, False]


def test_a_frame_does_not_depend_on_those_rendered_with_it(shipped, real):
    render = OpenvinoEngine(real.animator).render
    whole = render(real.source, real.motion, real.guide)
    some = slice(3, 6)
    alone = render(real.source, real.motion[:, some], guides(real.guide, some))
    assert torch.equal(alone, whole[:, some])
    drawn = render(real.source, real.motion, guides(real.guide, some), some)
    assert torch.equal(drawn, alone)


def test_an_error_while_sampling_is_raised_once(tiny, monkeypatch):
    animator, source, motion, _ = tiny
    render = OpenvinoEngine(animator, FULL).render
    expected = render(source, motion)
    with monkeypatch.context() as patch:
        patch.setattr(sampling_numba, "sample_into", lambda maps, places, into: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            render(source, motion)
    assert torch.equal(render(source, motion), expected)


def test_a_net_is_converted_once_and_then_renders_the_same_bytes(
    tiny, tmp_path, monkeypatch, caplog
):
    monkeypatch.setenv("MIEN_CACHE", str(tmp_path / "graphs"))
    animator, source, motion, expected = tiny
    first = OpenvinoEngine(animator, FULL).render(source, motion)
    assert [line for line in said(caplog) if "is converted" in line]
    caplog.clear()
    again = OpenvinoEngine(animator, FULL).render(source, motion)
    assert not said(caplog)
    assert torch.equal(first, again)
    torch.testing.assert_close(first, expected, rtol=0, atol=1e-4)
    folder = engine.graph_folder(animator, guided=False)
    assert list((tmp_path / "graphs").iterdir()) == [folder]
    (folder / "0.bin").write_bytes(b"")
    assert torch.equal(first, OpenvinoEngine(animator, FULL).render(source, motion))
    assert "is damaged and made anew" in said(caplog)[0]
    caplog.clear()
    OpenvinoEngine(animator, FULL).render(source, motion)
    assert not said(caplog)


def test_another_net_has_another_graph(tiny):
    other = awake(tiny_animator(temporal_kernel=1))
    assert engine.graph_folder(other, False) == engine.graph_folder(tiny[0], False)
    with torch.no_grad():
        next(other.parameters())[0].add_(1e-6)
    assert engine.graph_folder(other, False) != engine.graph_folder(tiny[0], False)
    assert engine.graph_folder(other, False) != engine.graph_folder(other, True)


def test_without_a_folder_to_keep_it_the_net_is_converted_all_the_same(tiny, monkeypatch, caplog):
    monkeypatch.setenv("MIEN_CACHE", "/proc/graphs")  # which nobody can make
    animator, source, motion, expected = tiny
    frames = OpenvinoEngine(animator, FULL).render(source, motion)
    torch.testing.assert_close(frames, expected, rtol=0, atol=1e-4)
    assert "cannot be written" in said(caplog)[-1]


@pytest.mark.parametrize("of_torch", [False, True], ids=["torch-float32", "torch-bfloat16"])
@pytest.mark.parametrize(
    "of_openvino", [False, True], ids=["openvino-float32", "openvino-bfloat16"]
)
def test_the_fastest_is_chosen_unless_another_is_named(of_torch, of_openvino, tiny, monkeypatch):
    monkeypatch.delenv("MIEN_ENGINE")
    monkeypatch.setattr("mien.engines.choice.cpu_has_bfloat16", lambda: of_torch)
    monkeypatch.setattr(engine, "has_bfloat16", lambda: of_openvino)
    animator = tiny[0]
    fast = "openvino" if of_openvino and not of_torch else "torch"
    assert choose_engine(animator).what.startswith(fast)
    assert choose_engine(animator, MIXED).what.startswith(fast)
    assert choose_engine(animator, FULL).what == f"torch, {FULL}"
    assert choose_engine(animator, FULL, "openvino").what.startswith("openvino")
    without = tiny_animator(temporal_kernel=1, decoder="none")
    assert choose_engine(without).what.startswith("torch")
    assert choose_engine(without, forced="openvino").what.startswith("openvino")
    monkeypatch.setenv("MIEN_ENGINE", "torch")
    assert choose_engine(animator).what.startswith("torch")


def test_an_engine_that_cannot_render_the_net_is_refused_or_passed_over(monkeypatch):
    monkeypatch.delenv("MIEN_ENGINE")
    animator = tiny_animator()
    assert animator.config.temporal_context
    assert choose_engine(animator).what.startswith("torch")
    with pytest.raises(UserError, match="convolves over frames"):
        choose_engine(animator, forced="openvino")
    spade = tiny_animator(temporal_kernel=1, decoder="spade", warped_skips=False)
    assert choose_engine(spade).what.startswith("torch")
    with pytest.raises(UserError, match="no back end 'tensorrt'"):
        choose_engine(animator, forced="tensorrt")
