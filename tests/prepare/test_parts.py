"""Spans, framing, audio analysis and checks, each alone."""

from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from mien.data.lips_from_sound import LipsFromSound
from mien.evaluation.points import track as points_of_clip
from mien.face import FaceMesh, crop, framed, lip_gap, portrait_box
from mien.media import load_audio, read_frames, to_bytes
from mien.prepare.audio import CLEAR, FARTHEST, AudioAnalysis, analyse_audio, sound_late
from mien.prepare.checks import Measures, judge
from mien.prepare.framing import cut_out, in_square, share_inside, square_of
from mien.prepare.settings import Cut, Limits
from mien.prepare.spans import Span, split
from mien.prepare.tracking import Track, TrackedFace
from mien.types import FRAMINGS

FINE = Measures(
    seconds=3.0, face=120.0, visible=1.0, inside=1.0, faces=1, turned=5.0, moved=0.1,
    sharp=200.0, grey=120.0, motion=2.0, voiced=0.7, loud=-20.0, clipped=0.0, pauses=25.0,
    sound_late=0, lag=0, lips_follow=0.6,
)  # fmt: skip


def face_values(x: float = 100.0, y: float = 80.0, height: float = 100.0) -> TrackedFace:
    box = x, y, x + 0.8 * height, y + height
    return TrackedFace(box, (x + 20, y + 70, x + 60, y + 90), 0.1, 3.0, 100.0, 120.0, 1.0)


def track(first: int, faces: list[TrackedFace]) -> Track:
    made = Track(first)
    for one in faces:
        made.add(one)
    return made


def span(*faces: TrackedFace) -> Span:
    return Span(0, 0, track(0, list(faces)).faces)


class TestSpans:
    @pytest.mark.parametrize("frames, parts", [(75, 1), (300, 1), (301, 2), (1000, 4)])
    def test_long_tracks_are_cut_evenly(self, frames: int, parts: int):
        spans = split(0, track(7, [face_values()] * frames), max_seconds=12.0)
        assert len(spans) == parts
        assert spans[0].first == 7 and spans[-1].end == 7 + frames
        assert all(a.end == b.first for a, b in zip(spans, spans[1:], strict=False))
        assert max(map(len, spans)) - min(map(len, spans)) <= 1 and max(map(len, spans)) <= 300


class TestFraming:
    def test_a_still_head_is_framed_as_a_portrait(self):
        still = span(*[face_values()] * 10)
        wanted = portrait_box(face_values().face)
        np.testing.assert_allclose(square_of(still, "face", 640, 480), wanted, atol=1)

    def test_a_moving_head_stays_in_the_square(self):
        moving = span(*[face_values(x) for x in np.linspace(60, 260, 40)])
        x0, _, x1, _ = square_of(moving, "face", 640, 480)
        assert x0 < 60 - 8 and x1 > 340 + 8

    def test_a_body_is_as_high_as_the_picture(self):
        assert square_of(span(face_values(500.0)), "half_body", 640, 480) == (160, 0, 640, 480)

    def test_a_body_of_an_upright_film_keeps_its_head(self):
        _, top, _, bottom = square_of(span(face_values(300.0, 250.0)), "half_body", 1080, 1920)
        assert top == 200 and bottom == 1280

    @pytest.mark.parametrize("size", [40, 64])
    def test_a_clip_is_cropped_as_a_portrait_is(self, size: int):
        picture = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
        square = (-10.0, -10.0, 30.0, 30.0)
        out = cut_out(picture, square, size)
        if size == 40:
            np.testing.assert_array_equal(out[10:, 10:], picture[:30, :30])
        np.testing.assert_array_equal(out, to_bytes(crop(picture, square, size))[0])

    def test_training_and_use_take_the_same_square_of_a_still_head(self):
        for framing in FRAMINGS:
            still = square_of(span(*[face_values()] * 10), framing, 640, 480)
            wanted = framed(face_values().face, framing, 640, 480)
            np.testing.assert_allclose(still, wanted, atol=1)
            assert still[2] - still[0] == (480 if framing == "half_body" else 186)

    def test_how_much_of_a_square_lies_in_the_picture(self):
        assert share_inside((-10.0, -10.0, 30.0, 30.0), 60, 40) == pytest.approx(900 / 1600)

    def test_boxes_follow_the_square(self):
        assert in_square((20.0, 30.0, 40.0, 60.0), (10.0, 10.0, 110.0, 110.0), 200) == (
            20,
            40,
            60,
            100,
        )


def loudest(samples: torch.Tensor) -> np.ndarray:
    """The loudest sample of each frame."""
    return samples.view(-1, 640).abs().amax(dim=1).numpy()


class TestHearing:
    def test_one_value_per_frame(self):
        sound = np.concatenate([np.zeros(640), np.full(640, 0.5), np.ones(640), np.ones(300)])
        pieces = np.array_split(sound.astype(np.float32), 7)
        audio = analyse_audio(pieces, loudest)
        np.testing.assert_allclose(audio.loudness, [0, 0.5, 1], atol=1e-6)
        np.testing.assert_allclose(audio.clipped, [0, 0, 1])
        np.testing.assert_allclose(audio.lips, [0, 0.5, 1])
        assert len(audio.part(1, 6).loudness) == 5 and audio.part(1, 6).loudness[-1] == 0
        assert len(analyse_audio([], loudest).loudness) == 0

    @staticmethod
    def speech(frames: int, late: int, noise: float, seed: int = 0):
        """Lips that open in syllables, and a sound that follows them so many frames later."""
        generator = np.random.default_rng(seed)
        raw = np.convolve(generator.normal(size=frames + 60), np.hanning(7), "same")
        syllables = np.maximum(raw, 0)[30:]
        gaps = syllables[:frames] + noise * generator.normal(size=frames)
        loud = np.roll(syllables, late)[:frames] + noise * np.abs(generator.normal(size=frames))
        nothing = np.zeros(frames)
        return gaps.astype(np.float32), AudioAnalysis(nothing, nothing, loud.astype(np.float32))

    @pytest.mark.parametrize("late", [-6, -2, 0, 5, 9])
    def test_late_and_early_sound_is_measured(self, late: int):
        measured = sound_late(*self.speech(300, late, 0.3))
        assert measured.frames == measured.best == late and measured.follow > 0.6

    def test_short_clips_are_not_believed(self):
        short = sound_late(*self.speech(75, 5, 0.1))
        assert short.frames is None and short.best == 5

    def test_beyond_the_range_it_is_that_much_or_more(self):
        assert sound_late(*self.speech(300, 14, 0.1)).frames == FARTHEST
        assert sound_late(*self.speech(300, -14, 0.1)).frames == -FARTHEST

    def test_halves_that_say_two_things_are_not_believed(self):
        gaps, late = self.speech(400, 9, 0.1)
        _, on_time = self.speech(400, 0, 0.1)
        lips = np.concatenate((late.lips[:240], on_time.lips[240:]))
        measured = sound_late(gaps, replace(late, lips=lips))
        assert measured.best == 9 and measured.follow > CLEAR and measured.frames is None

    def test_lips_that_do_not_tell_are_not_believed(self):
        found = []
        for seed in range(40):
            gaps, _ = self.speech(300, 0, 0.3, seed)
            _, audio = self.speech(300, 0, 0.3, seed + 100)
            found.append(sound_late(gaps, audio).frames)
        assert sum(late is not None for late in found) <= 2
        assert sound_late(gaps[:12], audio.part(0, 12)).frames is None
        assert sound_late(np.zeros(300, np.float32), audio).frames is None


WRONG = {
    "too short": dict(seconds=1.0),
    "face too small": dict(face=50.0),
    "face cut by the border": dict(visible=0.9),
    "face too near the border": dict(inside=0.5),
    "more than one face": dict(faces=2),
    "head turned aside": dict(turned=60.0),
    "head moves too far": dict(moved=1.5),
    "face blurred": dict(sharp=3.0),
    "face too dark": dict(grey=10.0),
    "face too bright": dict(grey=250.0),
    "picture does not move": dict(motion=0.0),
    "silent": dict(loud=-70.0),
    "too little speech": dict(voiced=0.05),
    "audio clipped": dict(clipped=0.1),
    "no pauses": dict(pauses=2.0),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_each_check_rejects_what_it_is_for_and_nothing_else(wrong: str):
    assert judge(FINE, Cut(), Limits(), shift_sound=True) == []
    (reason,) = judge(replace(FINE, **WRONG[wrong]), Cut(), Limits(), shift_sound=True)
    assert reason.startswith(wrong) and "at " in reason


def test_a_check_can_be_turned_off():
    limits = Limits(min_face_size=None)
    assert judge(replace(FINE, face=3.0), Cut(), limits, shift_sound=True) == []


def test_late_sound_is_rejected_where_it_is_not_shifted():
    late = replace(FINE, sound_late=6)
    assert judge(late, Cut(), Limits(), shift_sound=True) == []
    (reason,) = judge(late, Cut(), Limits(), shift_sound=False)
    assert "audio late: 6 frames" in reason
    assert judge(replace(FINE, sound_late=3), Cut(), Limits(), shift_sound=False) == []
    (reason,) = judge(replace(FINE, sound_late=-FARTHEST), Cut(), Limits(), shift_sound=True)
    assert f"audio early: {FARTHEST} frames or more" in reason


# Frames by which sound lags in clips whose offset three front ends agreed upon.
AUDITED = {"hdtf_RD42.mp4": -4, "hdtf_RD51.mp4": -3, "hdtf_float01.mp4": 1, "hdtf_WDA_AOC_0.mp4": 3}


@pytest.mark.parametrize("name", AUDITED)
def test_offsets_of_real_clips_are_found_within_a_frame(name: str, footage: Path):
    clip = footage / "valid" / name
    if not clip.is_file():
        pytest.skip(f"no {name}")
    frames = list(islice(read_frames(clip), 200))
    points = points_of_clip(FaceMesh(), frames)
    gaps = np.array([lip_gap(face) for face in points], np.float32)
    audio = analyse_audio([load_audio(clip).numpy()], LipsFromSound()).part(0, len(gaps))
    late = sound_late(gaps, audio)
    assert late.frames is not None and abs(late.frames - AUDITED[name]) <= 1
