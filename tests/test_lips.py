"""Measures of lips, trembling and pictures, on tracks whose answers are known."""

import sys
from dataclasses import replace
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

from mien.data.drawn import draw_clip, draw_person
from mien.errors import UserError
from mien.evaluation import Comparison, Task, TrackedClip, mouth_of, track
from mien.evaluation.masks import face_masks
from mien.evaluation.metrics.closed import (
    Closed,
    ClosedOfAll,
    ClosedOff,
    ClosedOffOfAll,
    SoundCount,
    closed_share,
)
from mien.evaluation.metrics.diversity import FRAMES, Diversity
from mien.evaluation.metrics.face import psnr_within
from mien.evaluation.metrics.fast import Fast
from mien.evaluation.metrics.gap import Gap, GapSlope
from mien.evaluation.metrics.identity import IdentityDistance
from mien.evaluation.metrics.joins import join_ratio
from mien.evaluation.metrics.sharpness import gradient
from mien.evaluation.metrics.silence import speed_ratio
from mien.evaluation.metrics.smallest import Rest, Smallest
from mien.evaluation.metrics.spread import Spread
from mien.evaluation.metrics.tremble import STABLE, Tremble, second_difference
from mien.evaluation.metrics.width import Width, WidthSlope
from mien.evaluation.phonemes import Phonemes, frames_of
from mien.evaluation.points import Mouth
from mien.evaluation.series import pearson, slope
from mien.evaluation.speech import overlap
from mien.face import FaceMesh
from mien.metrics import without_slow

TIME = np.arange(100)
SINE = np.sin(2 * np.pi * TIME / 10)  # five frames are half a period
STILL = np.full(100, 0.2)


def mouth(gap: np.ndarray) -> Mouth:
    return Mouth(gap, STILL[: len(gap)])


def face(
    gap: np.ndarray, width: np.ndarray | float = 0.5, eyes: float = 60.0, scale: float = 1.0
) -> np.ndarray:
    """Points of a face with that mouth, all lengths over the distance of the eyes."""
    points = np.zeros((len(gap), 468, 3), np.float32)
    points[:, [33, 133], 0], points[:, [362, 263], 0] = -eyes / 2, eyes / 2
    for corner, side in ((61, -1), (291, 1)):
        points[:, corner, 0] = side * width * eyes / 2
    points[:, 61, 1] = points[:, 291, 1] = points[:, 13, 1] = 50
    points[:, 14, 1] = 50 + gap * eyes
    points[np.isnan(gap)] = np.nan
    return points * np.float32(scale)


def clip(gap: np.ndarray, width: np.ndarray | float = 0.5) -> TrackedClip:
    return TrackedClip(np.zeros((len(gap), 2, 2, 3), np.uint8), face(gap, width))


def pair(drawn: TrackedClip, real: TrackedClip, *sounds: int) -> Comparison:
    return Comparison(
        Task.SPEECH, drawn, real, real.part(0, 1), closures=np.array(sounds, np.int64)
    )


@pytest.mark.parametrize("scale", [1.0, 0.3])
def test_a_mouth_is_measured_over_the_eyes_at_any_size(scale):
    seen = mouth_of(face(np.array([0.0, 0.1, 0.4]), width=0.7, scale=scale))
    assert seen.gap == pytest.approx([0.0, 0.1, 0.4], abs=1e-6)
    assert seen.width == pytest.approx([0.7] * 3, abs=1e-6)


def test_r_is_one_in_step_and_minus_one_half_a_period_late():
    gap, width = 0.3 + 0.1 * SINE, 0.5 + 0.1 * SINE
    real, late = clip(gap, width), clip(np.roll(gap, 5), np.roll(width, 5))
    assert Gap().of_clip(pair(real, real)) == pytest.approx(1)
    assert Gap().of_clip(pair(late, real)) == pytest.approx(-1, abs=1e-5)
    assert Width().of_clip(pair(late, real)) == pytest.approx(-1, abs=1e-5)


def test_slope_and_spread_tell_how_far_a_mouth_opens():
    half, whole = 0.7 + 0.05 * SINE, 0.5 + 0.1 * SINE
    assert slope(half, whole) == pytest.approx(0.5)
    assert pearson(half, whole) == pytest.approx(1)
    both = pair(clip(half, whole), clip(whole, half))
    assert Spread().of_clip(both) == pytest.approx(0.5, abs=1e-4)
    assert GapSlope().of_clip(both) == pytest.approx(0.5, abs=1e-4)
    assert WidthSlope().of_clip(both) == pytest.approx(2, abs=1e-3)


def test_a_still_mouth_follows_nothing_and_an_unseen_one_is_no_score():
    real = clip(0.5 + 0.1 * SINE, 0.5 + 0.1 * SINE)
    still = pair(clip(STILL), real, 20, 40)
    metrics = Gap(), Fast(), Width(), Closed(), Spread()
    assert [m.of_clip(still) for m in metrics] == pytest.approx([0] * 5, abs=1e-6)
    unseen = pair(clip(STILL * np.nan), real, 20, 40)
    assert np.isnan([m.of_clip(unseen) for m in metrics]).all()
    assert SoundCount().of_clip(unseen) == 2


def test_the_smallest_gap_stands_beside_that_of_the_portrait():
    drawn = pair(clip(0.3 + 0.1 * SINE), clip(STILL))
    assert Smallest().of_clip(drawn) == pytest.approx(0.3 - 0.1 * np.sin(0.4 * np.pi), abs=1e-5)
    assert Rest().of_clip(drawn) == pytest.approx(0.2, abs=1e-6)


def test_a_straight_line_is_all_slow_and_a_fast_sine_passes():
    assert without_slow(3 + 0.5 * TIME) == pytest.approx(np.zeros(100), abs=1e-9)
    fast = np.sin(2 * np.pi * TIME / 5)  # whole periods in 15 frames
    assert without_slow(fast)[7:-7] == pytest.approx(fast[7:-7], abs=1e-9)


def test_fast_is_blind_to_trends_that_the_gap_sees():
    fast = 0.1 * np.sin(2 * np.pi * TIME / 5)
    both = pair(clip(3 + fast + 0.02 * TIME), clip(3 + fast - 0.02 * TIME))
    assert Gap().of_clip(both) < -0.9
    assert Fast().of_clip(both) > 0.99


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
    gap = np.full(100, 0.4)
    gap[40:46] = 0.0
    beside = pair(clip(gap), clip(gap), 42)
    assert (Closed().of_clip(beside), ClosedOff().of_clip(beside)) == (1, 0)
    assert ClosedOff().of_clip(pair(clip(gap), clip(gap), 35)) == 0.5  # 28 and 42


def test_over_all_clips_every_sound_counts_alike():
    gap = np.full(100, 0.4)
    gap[:6] = 0.0
    real = clip(gap)
    clips = [pair(real, real, 1, 2, 3), pair(real, real, 50), pair(real, real)]
    closed, off = ClosedOfAll(), ClosedOffOfAll()
    assert closed.of_set([closed.features(c) for c in clips], []) == 0.75
    assert off.of_set([off.features(c) for c in clips], []) == 0.0
    assert np.isnan(closed.of_set([closed.features(clips[2])], []))


@pytest.mark.parametrize("lag", [-4, 0, 3])
@pytest.mark.parametrize("more", [0, 7])
def test_a_lag_of_the_sound_moves_the_real_mouth_along(lag, more):
    random = np.random.default_rng(0).normal(size=130)
    real = random[10:110]
    drawn = random[10 - lag : 110 - lag + more]  # frame i shows what the real one does at i - lag
    ours, theirs = overlap(len(drawn), len(real), lag)
    assert np.array_equal(drawn[ours], real[theirs])
    assert len(real[theirs]) == 100 - max(-lag, lag - more, 0)
    assert overlap(10, 10, 12) == (slice(12, 12), slice(0, 0))


def test_a_steady_move_does_not_tremble_and_a_zigzag_does():
    points = np.zeros((20, 468, 3), np.float32)
    points[:, :, 0] = 3 * np.arange(20)[:, None]
    assert second_difference(points) == 0
    points[:, list(STABLE), 1] = 0.5 * (-1) ** np.arange(20)[:, None]
    assert second_difference(points) == pytest.approx(2)  # 4 times the zigzag
    assert np.isnan(second_difference(points[:2]))
    frames = np.zeros((20, 2, 2, 3), np.uint8)
    half, whole = points.copy(), points
    half[..., 1] /= 2
    both = pair(TrackedClip(frames, half), TrackedClip(frames, whole))
    assert Tremble().of_clip(both) == pytest.approx(0.5)
    assert np.isnan(Tremble().of_clip(replace(both, every_frame=False)))


def test_lips_in_silence_are_compared_with_lips_in_speech():
    gap = np.concatenate((np.tile((0.0, 0.2), 10), np.tile((0.2, 0.15), 10)))
    gate = np.repeat((1.0, 0.0), 20)
    assert speed_ratio(mouth(gap), gate) == pytest.approx(0.05 * 19 / 20 / 0.2)
    assert speed_ratio(mouth(gap * 7), gate) == pytest.approx(speed_ratio(mouth(gap), gate))
    assert np.isnan(speed_ratio(mouth(gap), np.ones(40)))


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
    assert psnr_within(drawn, wanted, masks).tolist() == pytest.approx([20, 20])
    assert psnr_within(drawn, wanted, ~masks).tolist() == pytest.approx([40, 40])
    masks[1] = False
    assert psnr_within(drawn, wanted, masks).isnan().tolist() == [False, True]
    assert psnr_within(wanted, wanted, masks)[0] == 100


def test_sharpness_is_the_slope_of_grey_inside_the_face():
    ramp = np.broadcast_to(
        (np.arange(32) * 6).astype(np.uint8)[None, None, :, None], (1, 32, 32, 3)
    )
    masks = np.zeros((1, 32, 32), bool)
    masks[:, 8:20, 8:20] = True
    assert gradient(ramp, masks) == pytest.approx(6)
    assert gradient(ramp // 2, masks) == pytest.approx(3)
    assert np.isnan(gradient(ramp, masks & False))


def test_a_face_is_the_hull_of_its_points():
    points = np.zeros((2, 468, 3), np.float32)
    points[0, :, :2] = np.random.default_rng(0).uniform(10, 20, (468, 2))
    points[0, -4:, :2] = [(10, 10), (20, 10), (20, 20), (10, 20)]
    points[1] = np.nan
    masks = face_masks(points, 32)
    assert masks[0].sum() == 121 and masks[0, 10:21, 10:21].all()
    assert not masks[1].any()


def test_a_person_is_near_to_themselves_and_far_from_another():
    try:
        metric = IdentityDistance()
    except UserError as error:
        pytest.skip(str(error))
    people = [draw_person(np.random.default_rng(seed)) for seed in (0, 3)]
    drawn = [draw_clip(p, 128, 4, np.random.default_rng(0)).frames for p in people]
    own, other = (TrackedClip(frames, track(FaceMesh(), frames)) for frames in drawn)
    portrait = own.part(0, 1)

    def distance(clip: TrackedClip) -> float:
        return metric.of_clip(Comparison(Task.CROSS, clip, own, portrait))

    assert distance(own.held(0, 4)) == pytest.approx(0)
    assert 0 < distance(own) < distance(other)
    assert np.isnan(distance(TrackedClip(own.frames, own.points * np.nan)))


def test_diversity_is_the_mean_distance_of_motions_and_blind_to_place_and_size():
    metric = Diversity()

    def features(gap: np.ndarray, scale: float = 1.0, shift: float = 0.0) -> np.ndarray:
        seen = TrackedClip(
            np.zeros((len(gap), 2, 2, 3), np.uint8),
            face(gap, scale=scale) + np.float32(shift),
        )
        return metric.features(Comparison(Task.SPEECH, seen, seen, seen.part(0, 1)))

    still, moving = features(STILL), features(0.3 + 0.1 * SINE)
    assert len(still) == FRAMES
    assert metric.of_set([still, still], []) == pytest.approx(0, abs=1e-6)
    # One coordinate of 468 * 2 moves, by 0.1 distances of the eyes times a sine.
    apart = 0.1 / np.sqrt(2) / np.sqrt(468 * 2)
    assert metric.of_set([still, moving], []) == pytest.approx(apart, rel=1e-3)
    assert metric.of_set([still, still, moving], []) == pytest.approx(apart * 2 / 3, rel=1e-3)
    twice = features(0.3 + 0.1 * SINE, scale=2.0, shift=30.0)
    assert metric.of_set([moving, twice], []) == pytest.approx(0, abs=1e-6)
    short = features(0.3 + 0.1 * SINE[:20])
    assert metric.of_set([moving, short], []) == pytest.approx(0, abs=1e-6)
    assert np.isnan(metric.of_set([moving], []))
    assert np.isnan(metric.of_set([moving, features(STILL * np.nan)], []))


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
            return "closures"

        def phoneme_spans(self, compared):
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

    path = footage / "valid" / "hdtf_RD4.mp4"
    frames = read_video(path, 256)
    real = TrackedClip(frames, track(FaceMesh(), frames))
    compared = pair(real, real, *Phonemes().closures(load_audio(path)).tolist())
    closed, beside = Closed().of_clip(compared), ClosedOff().of_clip(compared)
    assert closed > 0.8 and closed > beside + 0.15
