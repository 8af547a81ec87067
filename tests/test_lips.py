"""Measures of lips, trembling and pictures, on tracks whose answers are known."""

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

from mien.data.drawn import draw_clip, draw_person
from mien.errors import UserError
from mien.evaluation.lips import (
    Mouth,
    beside,
    closed_share,
    lip_score,
    mouth_of,
    r_of,
    slope_of,
)
from mien.evaluation.looks import Likeness, face_masks, psnr_within, sharpness
from mien.evaluation.phonemes import Phonemes, frames_of
from mien.evaluation.points import track
from mien.evaluation.speech import SpeechScore, closures_of, lips_at_lag, overlapping
from mien.evaluation.steadiness import STABLE, join_ratio, silence_share, trembling
from mien.face import FaceMesh
from mien.metrics import without_slow

TIME = np.arange(100)
SINE = np.sin(2 * np.pi * TIME / 10)  # five frames are half a period
STILL = np.full(100, 0.2)


def mouth(gap: np.ndarray, width: np.ndarray | None = None) -> Mouth:
    return Mouth(gap, STILL[: len(gap)] if width is None else width)


def face(gap: np.ndarray, width: float = 0.5, eyes: float = 60.0, scale: float = 1.0) -> np.ndarray:
    """Points of a face with that mouth, all lengths over the distance of the eyes."""
    points = np.zeros((len(gap), 468, 3), np.float32)
    points[:, [33, 133], 0], points[:, [362, 263], 0] = -eyes / 2, eyes / 2
    points[:, [61, 291], 0] = np.array([-1, 1]) * width * eyes / 2
    points[:, 61, 1] = points[:, 291, 1] = points[:, 13, 1] = 50
    points[:, 14, 1] = 50 + gap * eyes
    return points * np.float32(scale)


@pytest.mark.parametrize("scale", [1.0, 0.3])
def test_a_mouth_is_measured_over_the_eyes_at_any_size(scale):
    seen = mouth_of(face(np.array([0.0, 0.1, 0.4]), width=0.7, scale=scale))
    assert seen.gap == pytest.approx([0.0, 0.1, 0.4], abs=1e-6)
    assert seen.width == pytest.approx([0.7] * 3, abs=1e-6)


def test_r_is_one_in_step_and_minus_one_half_a_period_late():
    real = mouth(0.3 + 0.1 * SINE, 0.5 + 0.1 * SINE)
    late = mouth(np.roll(real.gap, 5), np.roll(real.width, 5))
    assert lip_score(real, real, None).gap == pytest.approx(1)
    assert lip_score(late, real, None).gap == pytest.approx(-1)
    assert lip_score(late, real, None).width == pytest.approx(-1)


def test_slope_and_spread_tell_how_far_a_mouth_opens():
    half = 0.7 + 0.5 * SINE
    assert slope_of(half, SINE) == pytest.approx(0.5)
    assert r_of(half, SINE) == pytest.approx(1)
    assert lip_score(mouth(half), mouth(SINE), None).spread == pytest.approx(0.5)


def test_a_still_mouth_follows_nothing_and_an_unseen_one_is_no_score():
    still = lip_score(mouth(STILL), mouth(SINE), np.array([20, 40]))
    assert (still.gap, still.fast, still.width, still.closed) == (0, 0, 0, 0)
    assert still.spread == pytest.approx(0, abs=1e-12)
    nowhere = STILL * np.nan
    unseen = lip_score(mouth(nowhere, nowhere), mouth(SINE), np.array([20, 40]))
    assert [name for name, value in vars(unseen).items() if value == value] == ["sounds"]


def test_a_straight_line_is_all_slow_and_a_fast_sine_passes():
    assert without_slow(3 + 0.5 * TIME) == pytest.approx(np.zeros(100), abs=1e-9)
    fast = np.sin(2 * np.pi * TIME / 5)  # whole periods in 15 frames
    assert without_slow(fast)[7:-7] == pytest.approx(fast[7:-7], abs=1e-9)


def test_fast_is_blind_to_trends_that_the_gap_sees():
    fast = 0.1 * np.sin(2 * np.pi * TIME / 5)
    score = lip_score(mouth(fast + 0.02 * TIME), mouth(fast - 0.02 * TIME), None)
    assert score.gap < -0.9
    assert score.fast > 0.99


def test_closures_are_counted_exactly():
    gap = np.full(100, 0.4)
    gap[[20, 50, 80]] = 0.0
    gap[[21, 51, 81]] = 0.05  # six frames of 100: the 5th percentile lies among them
    # At 20 and one frame beside 50 it closes; three frames from 80 it does not, nor at 35 and 65.
    sounds = np.array([20, 49, 84, 35, 65])
    assert closed_share(gap, sounds) == pytest.approx(2 / 5)
    assert np.isnan(closed_share(gap, np.array([-3, 100])))


def test_a_quarter_of_the_own_range_is_the_limit():
    gap = np.linspace(0, 1, 101)  # its range is 0.05 to 0.95, a quarter of it 0.275
    assert [closed_share(gap, np.array([s])) for s in (27, 28, 29)] == [1, 1, 0]


def test_chance_looks_seven_frames_to_either_side():
    assert sorted(beside(np.array([10, 50]))) == [3, 17, 43, 57]
    gap = np.full(100, 0.4)
    gap[40:46] = 0.0
    score = lip_score(mouth(gap), mouth(gap), np.array([42]))
    assert (score.closed, score.closed_off) == (1, 0)
    assert lip_score(mouth(gap), mouth(gap), np.array([35])).closed_off == 0.5


def test_over_all_clips_every_sound_counts_alike():
    clips = [
        SpeechScore(closed=1.0, closed_off=0.5, sounds=3.0),
        SpeechScore(closed=0.0, closed_off=float("nan"), sounds=1.0),
        SpeechScore(),
    ]
    assert closures_of(clips) == {"closed": 0.75, "closed_off": 0.5}


@pytest.mark.parametrize("lag", [-4, 0, 3])
def test_a_lag_of_the_sound_moves_the_real_mouth_along(lag):
    random = np.random.default_rng(0).normal(size=120)
    real = mouth(random[10:110])
    drawn = mouth(random[10 - lag : 110 - lag])  # frame i shows what the real one does at i - lag
    assert lips_at_lag(drawn, real, None, lag).gap == pytest.approx(1)
    assert lips_at_lag(drawn, real, None, lag + 1).gap < 0.5
    made, own, moments = overlapping(drawn, real, np.array([50]), lag)
    assert len(made) == len(own) == 100 - abs(lag)
    assert moments is not None
    assert made.gap[moments[0]] == drawn.gap[50] == own.gap[moments[0]]


def test_a_steady_move_does_not_tremble_and_a_zigzag_does():
    points = np.zeros((20, 468, 3), np.float32)
    points[:, :, 0] = 3 * np.arange(20)[:, None]
    assert trembling(points) == 0
    points[:, list(STABLE), 1] = 0.5 * (-1) ** np.arange(20)[:, None]
    assert trembling(points) == pytest.approx(2)  # 4 times the zigzag
    assert np.isnan(trembling(points[:2]))


def test_lips_in_silence_are_compared_with_lips_in_speech():
    gap = np.concatenate((np.tile((0.0, 0.2), 10), np.tile((0.2, 0.15), 10)))
    gate = np.repeat((1.0, 0.0), 20)
    assert silence_share(mouth(gap), gate) == pytest.approx(0.05 * 19 / 20 / 0.2)
    assert silence_share(mouth(gap * 7), gate) == pytest.approx(silence_share(mouth(gap), gate))
    assert np.isnan(silence_share(mouth(gap), np.ones(40)))


def test_jumps_where_windows_join_are_seen():
    motion = torch.arange(40.0)[None, :, None].repeat(1, 1, 3)
    assert join_ratio(motion, [10, 20, 30]) == pytest.approx(1)
    motion[:, 10:] += 1
    motion[:, 20:] += 1
    motion[:, 30:] += 1
    assert join_ratio(motion, [10, 20, 30]) == pytest.approx(2)
    assert np.isnan(join_ratio(motion, []))


def test_errors_inside_and_outside_the_face_are_kept_apart():
    masks = np.zeros((2, 8, 8), bool)
    masks[:, 2:4, 2:6] = True
    wanted = torch.zeros(2, 3, 8, 8)
    drawn = torch.where(torch.from_numpy(masks)[:, None], 0.2, 0.02).expand(-1, 3, -1, -1)
    assert psnr_within(drawn, wanted, masks) == pytest.approx(20)
    assert psnr_within(drawn, wanted, ~masks) == pytest.approx(40)
    assert np.isnan(psnr_within(drawn, wanted, masks & False))


def test_sharpness_is_the_slope_of_grey_inside_the_face():
    ramp = np.broadcast_to(
        (np.arange(32) * 6).astype(np.uint8)[None, None, :, None], (1, 32, 32, 3)
    )
    masks = np.zeros((1, 32, 32), bool)
    masks[:, 8:20, 8:20] = True
    assert sharpness(ramp, masks) == pytest.approx(6)
    assert sharpness(ramp // 2, masks) == pytest.approx(3)
    assert np.isnan(sharpness(ramp, masks & False))


def test_a_face_is_the_hull_of_its_points():
    points = np.zeros((2, 468, 3), np.float32)
    points[0, :, :2] = np.random.default_rng(0).uniform(10, 20, (468, 2))
    points[0, -4:, :2] = [(10, 10), (20, 10), (20, 20), (10, 20)]
    points[1] = np.nan
    masks = face_masks(points, 32)
    assert masks[0].sum() == 121 and masks[0, 10:21, 10:21].all()
    assert not masks[1].any()


def test_a_person_is_near_to_themselves_and_far_from_another():
    if (likeness := Likeness()).missing:
        pytest.skip(likeness.missing)
    people = [draw_person(np.random.default_rng(seed)) for seed in (0, 3)]
    clips = [draw_clip(p, 128, 4, np.random.default_rng(0)).frames for p in people]
    points = [track(FaceMesh(), clip) for clip in clips]
    distance = likeness.distance
    still = clips[0][:1].repeat(4, axis=0)
    assert distance(still, points[0][[0] * 4], clips[0][0], points[0][0]) == pytest.approx(0)
    own = distance(clips[0], points[0], clips[0][0], points[0][0])
    assert 0 < own < distance(clips[1], points[1], clips[0][0], points[0][0])
    assert np.isnan(distance(still, points[0][[0] * 4] * np.nan, clips[0][0], points[0][0]))


class SeesWhite(FaceMesh):
    """Sees a face in pictures that are not black; all its points lie at the first pixel's value."""

    def __init__(self) -> None:
        pass

    def faces(self, picture):
        return ["face"] if picture.any() else []

    def landmarks(self, picture, face):
        return np.full((468, 3), picture[0, 0, 0], np.float32), 1.0


def test_frames_without_a_face_lie_between_their_neighbours():
    frames = [np.full((2, 2, 3), value, np.uint8) for value in (0, 10, 0, 0, 40, 50)]
    assert track(SeesWhite(), frames)[:, 0, 0].tolist() == pytest.approx([10, 10, 20, 30, 40, 50])
    assert np.isnan(track(SeesWhite(), frames[:4])).all()  # one of four is too few


def test_steps_of_the_recogniser_fall_into_video_frames():
    assert frames_of(np.array([0, 1, 2, 3, 50, 99])).tolist() == [0, 0, 1, 1, 25, 49]


def test_only_sounds_that_close_the_lips_are_taken(monkeypatch):
    class Model:
        def __call__(self, waveform, rate):
            assert rate == 16_000 and len(waveform) == 800
            return "heard"

        def phoneme_spans(self, heard):
            symbols = ["p", "a", "mː", "f", "bʲ", "n", "w"]
            return [SimpleNamespace(phoneme=s, start_frame=10 * i) for i, s in enumerate(symbols)]

    stub = ModuleType("hama.asr")
    stub.ASRModel = Model  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setitem(sys.modules, "hama", ModuleType("hama"))
    monkeypatch.setitem(sys.modules, "hama.asr", stub)
    assert Phonemes().closures(torch.zeros(800)).tolist() == [0, 10, 20]


def test_a_missing_recogniser_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "hama", None)
    with pytest.raises(UserError, match="phonemes"):
        Phonemes()


@pytest.mark.footage
def test_real_lips_close_on_p_b_and_m_and_less_so_beside_them(footage):
    pytest.importorskip("hama")
    from mien.media import load_audio, read_video

    clip = footage / "valid" / "hdtf_RD4.mp4"
    real = mouth_of(track(FaceMesh(), read_video(clip, 256)))
    score = lip_score(real, real, Phonemes().closures(load_audio(clip)))
    assert score.closed > 0.8 and score.closed > score.closed_off + 0.15
