"""The main job on tiny random nets: lengths, seeds, seams, silence, and flat memory."""

import itertools
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mien import pipeline
from mien.audio.features import FPS, SAMPLE_RATE
from mien.media.files import Unwritable
from mien.motion import rollout
from mien.motion.sampling import SamplingConfig
from mien.pipeline import animate
from mien.portrait.streaming import FRAMES_AT_ONCE, no_guides, render_stream, with_neighbours
from mien.report import Report, Stopwatch
from mien.session import FrameStream, Session, TimedFrames
from tests.tiny_nets import BOX, tiny_pair, voice, write_portrait, write_wav


class TestStreaming:
    @pytest.mark.parametrize("context", [0, 1, 3, 9])
    @pytest.mark.parametrize("lengths", [[1], [80, 80, 3], [5, 1, 1, 30], [8, 8], [7, 2]])
    def test_chunks_cover_every_frame_once_with_its_neighbours(self, lengths, context):
        total = sum(lengths)
        clip = torch.arange(total, dtype=torch.float32)[None, :, None]
        done = 0
        for motion, before, count in with_neighbours(iter(clip.split(lengths, 1)), 8, context):
            numbers = motion[0, :, 0].int().tolist()
            expected = range(max(0, done - context), min(total, done + count + context))
            assert numbers == list(expected)
            assert numbers[before : before + count] == list(range(done, done + count))
            assert count == min(8, total - done)
            done += count
        assert done == total

    def test_chunks_have_no_seam(self):
        animator, _ = tiny_pair()
        assert animator.config.temporal_context > 0
        source = torch.rand(1, 3, 64, 64) * 2 - 1
        with torch.no_grad():
            appearance = animator.encode_appearance(source)
            still = animator.encode_motion(source)
            motion = still[:, None] + torch.randn(1, 3 * FRAMES_AT_ONCE - 1, 768)
            whole = animator.render(appearance, still, motion)
            parts = list(render_stream(animator, appearance, still, iter(motion.split(5, 1))))
        # Convolutions of other batch sizes round differently.
        torch.testing.assert_close(torch.cat(parts), whole[0], atol=1e-5, rtol=0)

    def test_the_source_s_part_is_computed_once_for_all_chunks(self):
        animator, _ = tiny_pair()
        source, calls = torch.rand(1, 3, 64, 64) * 2 - 1, []
        attention = animator.dense_motion.attention
        with torch.no_grad():
            appearance, still = animator.encode_appearance(source), animator.encode_motion(source)
            for part in (attention.compress, attention.hourglass):
                part.register_forward_hook(lambda net, *_: calls.append(net))
            motion = still[:, None].expand(-1, 3 * FRAMES_AT_ONCE, -1)
            list(render_stream(animator, appearance, still, iter(motion.split(5, 1))))
        assert calls.count(attention.compress) == 1 and calls.count(attention.hourglass) == 3

    def test_chunks_in_threads_are_those_of_one_thread_in_order(self):
        animator, _ = tiny_pair()
        source, threads = torch.rand(1, 3, 64, 64) * 2 - 1, set()
        with torch.no_grad():
            own = animator.encode_appearance(source), animator.encode_motion(source)
        motion = own[1][:, None] + torch.randn(1, 40, own[1].shape[1])

        def render(*given):
            threads.add(threading.get_ident())
            assert not torch.is_grad_enabled()
            return animator.render_prepared(*given)

        def drawn(at_once: int) -> torch.Tensor:
            windows = iter(motion.split(16, 1))
            parts = render_stream(
                animator, *own, windows, no_guides, render, at_once, torch.no_grad
            )
            return torch.cat(list(parts))

        one, three = drawn(1), drawn(3)
        assert threading.get_ident() in threads and len(threads) > 2
        assert torch.equal(one, three)

    def test_an_error_in_a_thread_is_raised_and_what_waits_is_dropped(self):
        animator, _ = tiny_pair()
        done = []

        def render(source, motion, guide, drawn):
            done.append(1)
            raise RuntimeError("out of memory")

        with torch.no_grad():
            source = torch.rand(1, 3, 64, 64)
            own = animator.encode_appearance(source), animator.encode_motion(source)
            windows = iter(own[1][:, None].expand(-1, 800, -1).split(16, 1))
            with pytest.raises(RuntimeError, match="out of memory"):
                list(render_stream(animator, *own, windows, no_guides, render, 2))
        assert len(done) <= 5  # four wait or are in work

    def test_frames_before_an_error_of_motion_are_given_first(self):
        animator, _ = tiny_pair()
        with torch.no_grad():
            source = torch.rand(1, 3, 64, 64)
            own = animator.encode_appearance(source), animator.encode_motion(source)

        def windows():
            yield own[1][:, None].expand(-1, 3 * FRAMES_AT_ONCE, -1)
            raise RuntimeError("out of memory")

        given = []
        with pytest.raises(RuntimeError, match="out of memory"):
            for part in render_stream(animator, *own, windows(), chunks_at_once=2):
                given.append(len(part))
        assert sum(given) >= 2 * FRAMES_AT_ONCE

    def test_the_first_frames_wait_for_no_more_chunks_than_threads(self):
        animator, _ = tiny_pair()
        taken = []

        def windows():
            for number in range(20):
                taken.append(number)
                yield torch.zeros(1, FRAMES_AT_ONCE, 768)

        with torch.no_grad():
            source = torch.rand(1, 3, 64, 64)
            own = animator.encode_appearance(source), animator.encode_motion(source)
            next(render_stream(animator, *own, windows(), chunks_at_once=4))
        context = -(-animator.config.temporal_context // FRAMES_AT_ONCE)
        assert len(taken) <= 4 + context

    def test_nothing_is_drawn_before_it_is_asked_for(self):
        drawn = []

        def windows():
            for number in itertools.count():
                drawn.append(number)
                yield torch.zeros(1, 8, 4)

        stream = with_neighbours(windows(), 8, 1)
        next(stream)
        assert len(drawn) == 2  # its own window, and the one that holds its neighbour


class Recorder:
    """Stands where VideoWriter stands and keeps the frames."""

    frames: list[np.ndarray]

    def __init__(self, path: Path, waveform: torch.Tensor) -> None:
        Recorder.frames = []

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(self, *_: object) -> None: ...

    def write(self, frames: np.ndarray) -> None:
        Recorder.frames.append(np.asarray(frames))


@pytest.fixture
def drawn(monkeypatch, tmp_path):
    """Run the whole flow without the video file; gives the frames as bytes."""
    monkeypatch.setitem(pipeline.WRITERS, ".mp4", Recorder)
    portrait = write_portrait(tmp_path / "portrait.png")
    animator, speech = tiny_pair()

    def run(sound: np.ndarray, **options) -> np.ndarray:
        audio = write_wav(tmp_path / "sound.wav", sound)
        given = {"animator": animator, "speech": speech, "box": BOX, **options}
        animate(audio, portrait, tmp_path / "out.mp4", **given)
        return np.concatenate(Recorder.frames)

    return run


FAST = SamplingConfig(steps=2)


class TestWrite:
    @staticmethod
    def stream(chunks: int) -> FrameStream:
        frames = (
            TimedFrames(np.zeros((2, 16, 16, 3), np.uint8), np.zeros(2)) for _ in range(chunks)
        )
        return FrameStream(frames, 2 * chunks, None, (), Stopwatch())

    def test_frames_are_encoded_in_order_while_the_next_are_rendered(self, monkeypatch, tmp_path):
        threads = set()

        class Slow(Recorder):
            def write(self, frames: np.ndarray) -> None:
                threads.add(threading.current_thread())
                super().write(frames)

        monkeypatch.setitem(pipeline.WRITERS, ".mp4", Slow)
        session = Session(tiny_pair()[0])
        report = pipeline.write(self.stream(5), tmp_path / "out.mp4", session, 0)
        assert report.frames == 10 and len(Recorder.frames) == 5
        assert len(threads) == 1 and threading.current_thread() not in threads

    def test_the_report_names_the_engine_that_rendered(self, monkeypatch, tmp_path):
        monkeypatch.setitem(pipeline.WRITERS, ".mp4", Recorder)
        session, still = Session(tiny_pair()[0]), replace(self.stream(1), engine="another")
        for stream, engine in ((self.stream(1), session.engine.what), (still, "another")):
            report = pipeline.write(stream, tmp_path / "out.mp4", session, 0)
            assert report.back_ends.endswith(f"rendering: {engine}")

    @pytest.mark.parametrize("failing", [0, 4])
    def test_an_error_of_the_encoder_is_raised(self, failing, monkeypatch, tmp_path):
        class Full(Recorder):
            def write(self, frames: np.ndarray) -> None:
                super().write(frames)
                if len(Recorder.frames) > failing:
                    raise Unwritable("the disk is full")

        monkeypatch.setitem(pipeline.WRITERS, ".mp4", Full)
        with pytest.raises(Unwritable, match="full"):
            pipeline.write(self.stream(5), tmp_path / "out.mp4", Session(tiny_pair()[0]), 0)


class TestAnimate:
    def test_as_many_frames_as_the_sound_lasts(self, drawn):
        for samples in (640, 641, 16_000, 33_333):
            frames = drawn(voice(samples / SAMPLE_RATE), sampling=FAST)
            assert frames.shape[1:] == (64, 64, 3)
            assert 0 <= len(frames) / FPS - samples / SAMPLE_RATE < 1 / FPS

    def test_same_seed_same_bytes_and_another_seed_another_motion(self, drawn):
        first = drawn(voice(2.0), sampling=FAST, seed=7)
        assert (first == drawn(voice(2.0), sampling=FAST, seed=7)).all()
        assert (first != drawn(voice(2.0), sampling=FAST, seed=8)).any()

    def test_silence_is_a_face_at_rest(self, drawn):
        frames = drawn(np.zeros(3 * SAMPLE_RATE), sampling=FAST).astype(int)
        # All frames are the same but for rounding in batches of other sizes.
        assert abs(frames - frames[:1]).max() <= 1
        moving = drawn(voice(3.0), sampling=FAST).astype(int)
        assert abs(moving - moving[:1]).max() > 5

    def test_the_face_comes_to_rest_after_the_voice(self, drawn):
        sound = np.concatenate((voice(2.0), np.zeros(3 * SAMPLE_RATE)))
        frames = drawn(sound, sampling=FAST).astype(int)
        rest = drawn(np.zeros(SAMPLE_RATE), sampling=FAST).astype(int)[0]
        assert abs(frames[-40:] - rest).max() <= 1
        assert abs(frames[10:40] - rest).max() > 5

    def test_frames_come_before_later_motion_is_made(self, drawn, monkeypatch):
        class Enough(Exception): ...

        windows = []
        sample_window = rollout.sample_window
        monkeypatch.setattr(
            rollout, "sample_window", lambda *given: windows.append(1) or sample_window(*given)
        )

        def stop(done: int, total: int) -> None:
            assert (done, total) == (FRAMES_AT_ONCE, 250)
            raise Enough

        with pytest.raises(Enough):
            drawn(voice(10.0), sampling=FAST, progress=stop)
        assert len(windows) == 1

    def test_one_net_without_the_other_is_refused(self, tmp_path):
        with pytest.raises(ValueError, match="both or neither"):
            animate("a.wav", "b.png", tmp_path / "c.mp4", animator=tiny_pair()[0])


class TestReport:
    def test_parts_that_feed_each_other_add_up(self):
        watch = Stopwatch()

        def inner():
            for number in range(3):
                time.sleep(0.02)
                yield number

        def outer():
            for number in watch.measure_items("inner", inner()):
                time.sleep(0.01)
                yield number

        begin = time.perf_counter()
        assert list(watch.measure_items("outer", outer())) == [0, 1, 2]
        whole = time.perf_counter() - begin
        assert watch.seconds["inner"] >= 0.06
        assert 0.03 <= watch.seconds["outer"] < watch.seconds["inner"]
        assert sum(watch.seconds.values()) == pytest.approx(whole, abs=0.01)

    def test_report_tells_what_was_promised(self):
        work = {"audio": 0.5, "render": 1.5}
        named = "a machine", "torch", ("two faces",), "ddim, 10 steps"
        report = Report(Path("out.mp4"), 4.0, 100, work, 3, *named)
        printed = str(report)
        assert report.work_per_second == 0.5
        for part in (
            "two faces",
            "out.mp4",
            "4.00 s",
            "0.50 s",
            "a machine",
            "torch",
            "render 1.5",
            "ddim, 10 steps, seed 3",
        ):
            assert part in printed
