import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mien.audio.features import (
    HOP,
    MEL_BINS,
    SAMPLE_RATE,
    SAMPLES_PER_FRAME,
    SILENCE,
    STEPS_PER_FRAME,
    apply_gain,
    exact_ratio,
    frame_count,
    log_mel,
    mel_filters,
)


def sine(hertz, seconds=1.0, amplitude=1.0):
    time = torch.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    return amplitude * torch.sin(2 * math.pi * hertz * time)[None]


def test_derivations_are_exact_and_a_remainder_is_an_error():
    assert SAMPLES_PER_FRAME * 25 == SAMPLE_RATE and STEPS_PER_FRAME * HOP == SAMPLES_PER_FRAME
    with pytest.raises(ValueError, match="16000 is not a whole number of 30"):
        exact_ratio(16000, 30)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 5000))
def test_four_steps_a_frame_whatever_the_length(samples):
    frames = frame_count(samples)
    assert (frames - 1) * SAMPLES_PER_FRAME < samples <= frames * SAMPLES_PER_FRAME
    assert log_mel(torch.zeros(1, samples)).shape == (1, STEPS_PER_FRAME * frames, 80)


def test_no_sound_is_refused():
    with pytest.raises(ValueError, match="at least one sample"):
        frame_count(0)


def test_silence_is_a_constant_floor():
    assert (log_mel(torch.zeros(2, 3000)) == SILENCE).all()


def test_the_missing_end_of_a_frame_is_silence():
    waveform = 0.1 * torch.randn(1, 1000)
    filled = torch.cat([waveform, torch.zeros(1, 280)], dim=1)
    torch.testing.assert_close(log_mel(waveform), log_mel(filled))


@pytest.mark.parametrize("step", [0, 13, 50, 99])
def test_a_click_stands_in_its_own_step(step):
    waveform = torch.zeros(1, SAMPLE_RATE)
    waveform[0, step * HOP + HOP // 2] = 1
    assert log_mel(waveform)[0].mean(-1).argmax() == step


def test_a_full_scale_sine_reads_zero_decibels_and_bins_rise_with_pitch():
    loudest = [log_mel(sine(hertz))[0, 50].max(-1) for hertz in (300, 1000, 3000)]
    bins = [int(peak.indices) for peak in loudest]
    assert bins == sorted(set(bins))
    for peak in loudest:
        assert abs(20 * float(peak.values) - 50) < 3  # 0 dB is 2.5; a mel filter leaks a little


def test_a_shift_of_level_is_what_a_louder_recording_gives():
    waveform = 0.05 * torch.randn(1, 8000, generator=torch.Generator().manual_seed(0))
    louder = log_mel(waveform * 10 ** (6 / 20))
    shifted = apply_gain(log_mel(waveform), torch.tensor([6.0]))
    torch.testing.assert_close(shifted, louder, atol=1e-4, rtol=1e-4)


def test_a_shift_of_level_keeps_silence_and_never_falls_below_it():
    features = torch.tensor([[[SILENCE, SILENCE + 0.1, 0.0]]])
    torch.testing.assert_close(
        apply_gain(features, torch.tensor([20.0])), torch.tensor([[[SILENCE, SILENCE + 1.1, 1.0]]])
    )
    assert apply_gain(features, torch.tensor([-20.0])).min() == SILENCE


def test_speech_levels_land_near_unit_range():
    noise = 0.1 * torch.randn(1, SAMPLE_RATE, generator=torch.Generator().manual_seed(0))
    quiet = log_mel(0.01 * noise)
    assert -2 < log_mel(noise).mean() < 2 and quiet.mean() > SILENCE


@pytest.mark.parametrize("fft, norm", [(400, "slaney"), (512, None)])
def test_mel_filters_are_those_of_librosa(fft, norm):
    from librosa.filters import mel

    wanted = torch.from_numpy(mel(sr=SAMPLE_RATE, n_fft=fft, n_mels=MEL_BINS, norm=norm))
    torch.testing.assert_close(mel_filters(fft, norm), wanted, atol=1e-8, rtol=0)
