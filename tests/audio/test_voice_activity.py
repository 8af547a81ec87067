"""The gate opens for speech, however faint, and for nothing else."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import mien
from mien.audio.features import SAMPLE_RATE, SAMPLES_PER_FRAME, frame_count
from mien.audio.voice_activity import frame_loudness, speech_gate, speech_probability
from mien.media import load_audio

SPEECH = load_audio(Path(mien.__file__).parent / "assets" / "demo.wav")
SECONDS = 3


def decibels(level: float) -> float:
    return 10 ** (level / 20)


def time(seconds: float = SECONDS) -> Tensor:
    return torch.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE


def tone(*frequencies: float, seconds: float = SECONDS) -> Tensor:
    waves = sum(torch.sin(2 * np.pi * f * time(seconds)) for f in frequencies)
    assert isinstance(waves, Tensor)
    return waves / waves.abs().max()


def pink_noise(seconds: float = SECONDS) -> Tensor:
    """Noise whose power falls with frequency, at a root mean square of 1."""
    generator = torch.Generator().manual_seed(0)
    white = torch.fft.rfft(torch.randn(len(time(seconds)), generator=generator))
    pink = torch.fft.irfft(white / torch.arange(len(white)).clamp(min=1).sqrt())
    return pink / pink.square().mean().sqrt()


def gate_of(waveform: Tensor) -> Tensor:
    return speech_gate(speech_probability(waveform, frame_count(len(waveform))))


NO_SPEECH = {
    "silence": torch.zeros(SECONDS * SAMPLE_RATE),
    "pink noise at -45 dBFS": pink_noise(2.4) * decibels(-45),
    "pink noise at -15 dBFS": pink_noise() * decibels(-15),
    "a chord at -20 dB": tone(220, 277, 330, 440) * decibels(-20),
    "50 Hz hum at -40 dBFS": tone(50) * decibels(-40),
    "a DC offset": torch.full((SECONDS * SAMPLE_RATE,), 0.05),
    "breath": pink_noise() * torch.sin(np.pi * time() / 1.5).square() * decibels(-35),
    "a click a second": (time() % 1 < 0.002).float(),
}
LOUDEST = float(SPEECH.abs().max())
MUSIC = tone(220, 277, 330, seconds=len(SPEECH) / SAMPLE_RATE)
HUM = tone(50, seconds=len(SPEECH) / SAMPLE_RATE)
SPEECHES = {
    "as recorded": SPEECH,
    "at a peak of -40 dB": SPEECH / LOUDEST * decibels(-40),
    "over music": SPEECH / LOUDEST * 0.5 + MUSIC * decibels(-20),
    "with a DC offset": SPEECH * 0.5 + 0.05,
    "over hum": SPEECH / LOUDEST * decibels(-10) + HUM * decibels(-40),
}


@pytest.mark.parametrize("name", NO_SPEECH)
@pytest.mark.real_world("sound in which nobody speaks")
def test_shut_where_nobody_speaks(name: str):
    assert not gate_of(NO_SPEECH[name]).any()


@pytest.mark.parametrize("name", SPEECHES)
@pytest.mark.real_world("faint or uneven speech")
def test_open_where_somebody_speaks(name: str):
    loudness = frame_loudness(SPEECH, frame_count(len(SPEECH)))
    loud = loudness > 0.3 * loudness.max()
    assert loud.sum() > 20
    assert gate_of(SPEECHES[name])[loud].mean() > 0.95


@pytest.mark.real_world("faint or uneven speech")
def test_a_loud_event_before_quiet_talk_leaves_the_talk():
    bang = torch.randn(1600, generator=torch.Generator().manual_seed(0)).clamp(-1, 1) * 0.9
    quiet = SPEECH / LOUDEST * decibels(-35)
    gate = gate_of(torch.cat([bang, torch.zeros(SAMPLE_RATE), quiet]))
    alone = gate_of(quiet)
    assert alone.mean() > 0.5 and gate[-len(alone) :].mean() > 0.9 * alone.mean()
    assert not gate[:10].any()


def test_shut_in_long_pauses_between_and_after():
    pause = torch.zeros(2 * SAMPLE_RATE)
    gate = gate_of(torch.cat([pause, SPEECH, pause, SPEECH, pause]))
    frames = frame_count(len(SPEECH))
    assert not gate[:30].any() and not gate[-20:].any()
    assert not gate[50 + frames + 25 : 50 + frames + 30].any()


def test_a_breath_between_words_closes_nothing():
    probability = torch.full((60,), 0.9)
    probability[25:35] = 0.05
    assert (speech_gate(probability) == 1).all()


def test_doubt_does_not_open_but_keeps_open():
    probability = torch.full((80,), 0.4)
    assert not speech_gate(probability).any()
    probability[20] = 0.6
    gate = speech_gate(probability)
    assert (gate[20:] == 1).all() and not gate[:10].any()


def test_attack_and_release_are_smooth():
    probability = torch.zeros(125)
    probability[50:75] = 1
    gate = speech_gate(probability)
    assert float(gate.diff().abs().max()) < 0.3
    assert float(gate.diff(n=2).abs().max()) < 0.15


def test_every_frame_has_a_probability_also_beyond_the_sound():
    for samples in (1, 511, 640, 1000, 40_000):
        waveform = SPEECH[8000 : 8000 + samples]
        frames = frame_count(samples)
        seen = speech_probability(waveform, frames + 5)
        assert seen.shape == (frames + 5,) and bool(((seen >= 0) & (seen <= 1)).all())


def test_threads_hear_what_one_hears():
    alone = [gate_of(s) for s in (SPEECH, NO_SPEECH["breath"])]
    with ThreadPoolExecutor(4) as pool:
        gates = list(pool.map(gate_of, [SPEECH, NO_SPEECH["breath"]] * 4))
    assert all(torch.equal(gate, alone[i % 2]) for i, gate in enumerate(gates))


def test_the_detector_leaves_the_threads_of_torch_alone():
    script = (
        "import torch; torch.set_num_threads(2)\n"
        "from mien.audio.voice_activity import speech_probability\n"
        "speech_probability(torch.ones(1600), 3)\n"
        "assert torch.get_num_threads() == 2"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)


def test_loudness_of_a_constant():
    waveform = torch.full((SAMPLES_PER_FRAME * 2 + 1,), 0.5)
    loudness = frame_loudness(waveform, 3)
    torch.testing.assert_close(loudness[:2], torch.tensor([0.5, 0.5]))
    assert float(loudness[2]) < 0.05


def test_the_gate_is_the_same_under_autocast():
    waveform = torch.cat((torch.zeros(SAMPLE_RATE), SPEECH, torch.zeros(SAMPLE_RATE)))
    frames = frame_count(len(waveform))
    exact = speech_gate(speech_probability(waveform, frames))
    with torch.autocast("cpu", torch.bfloat16):
        gate = speech_gate(speech_probability(waveform, frames))
    assert gate.dtype == torch.float32 and 0 < float(exact.mean()) < 1
    assert torch.equal(gate, exact)
