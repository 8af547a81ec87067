"""A pretrained front end encodes each sound once; the features are bound to the sound and to it."""

from copy import deepcopy
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mien.audio.features import log_mel
from mien.audio.pretrained import FrontEndConfig, WhisperSpeech, _whisper
from mien.data.features import FeatureCache, extract_features
from mien.data.latents import ClipLatents, read, write
from mien.data.manifest import ClipRecord
from mien.data.speech import FixedWindows, SpeechClips, VoiceConfig, WindowSpec
from mien.data.store import Store
from mien.mesh.motion import MESH_DIM

WHISPER = FrontEndConfig(bundle="whisper2", dims=384)
WINDOW = WindowSpec(frames=12, history=4, front_end=WHISPER)
RECORDS = [ClipRecord(f"{name}.mp4", name, "own", 0.8, 20) for name in ("ann", "bob")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Latents of two clips."""
    torch.manual_seed(0)
    for record in RECORDS:
        write(Store(tmp_path), record, latents(0.1 * torch.randn(20 * 640)))
    return tmp_path


def latents(sound: torch.Tensor) -> ClipLatents:
    return ClipLatents(
        torch.randn(20, 6), torch.randn(20, MESH_DIM), sound, torch.randn(8, 5), torch.randn(8, 6)
    )


@pytest.fixture
def encoded(monkeypatch) -> list[int]:
    """Lengths of the sounds that the front end is run on, as they come."""
    lengths: list[int] = []
    forward = WhisperSpeech.forward

    def noted(self, waveform):
        lengths.append(waveform.shape[1])
        return forward(self, waveform)

    monkeypatch.setattr(WhisperSpeech, "forward", noted)
    return lengths


def kept(folder: Path) -> list[Path]:
    return sorted(folder.glob("whisper2-*/*.safetensors"))


def test_each_clip_is_encoded_once(folder: Path, encoded: list[int]):
    extract_features(FeatureCache(WHISPER, folder), RECORDS, folder)
    assert encoded == [12800, 12800] and len(kept(folder)) == 2
    clips = SpeechClips(RECORDS, folder, WINDOW, VoiceConfig(), balance=0.0, seed=0)
    fixed = FixedWindows(RECORDS, folder, WINDOW)
    for index in range(4):
        assert clips[index].features.shape == fixed[index].features.shape == (1, 80, 384)
    extract_features(FeatureCache(WHISPER, folder), RECORDS, folder)
    assert len(encoded) == 2


def test_features_are_kept_in_half_the_bits(folder: Path):
    hearing = FeatureCache(WHISPER, folder)
    sound = read(folder, RECORDS[0]).sound
    first, again = hearing(sound), hearing(sound)
    assert first.dtype == torch.float32 and torch.equal(first, again)
    torch.testing.assert_close(first, hearing.front_end(sound[None]), rtol=1e-3, atol=1e-3)
    assert load_file(kept(folder)[0])["features"].dtype == torch.float16


def test_a_changed_clip_is_encoded_anew(folder: Path, encoded: list[int]):
    extract_features(FeatureCache(WHISPER, folder), RECORDS, folder)
    write(Store(folder), RECORDS[0], latents(0.1 * torch.randn(20 * 640)))
    extract_features(FeatureCache(WHISPER, folder), RECORDS, folder)
    assert len(encoded) == len(kept(folder)) == 3


def test_another_front_end_keeps_its_own(folder: Path, monkeypatch):
    sound = read(folder, RECORDS[0]).sound
    first = FeatureCache(WHISPER, folder)
    other = FeatureCache(WHISPER, folder)
    first(sound)
    encoder = deepcopy(other.front_end)
    assert isinstance(encoder, WhisperSpeech)
    with torch.no_grad():
        encoder.encoder.conv1.weight.mul_(1.5)
    monkeypatch.setattr("mien.data.features.load_front_end", lambda config: encoder)
    changed = FeatureCache(WHISPER, folder)
    assert not torch.allclose(changed(sound), first(sound), atol=0.01)
    assert len({path.parent for path in kept(folder)}) == 2


def test_a_front_end_that_inference_loaded_first_serves_training():
    _whisper.cache_clear()
    with torch.inference_mode():
        encoder = _whisper()
    assert not any(x.is_inference() for x in (*encoder.parameters(), *encoder.buffers()))
    torch.nn.Linear(384, 1)(encoder(torch.randn(1, 16000))).sum().backward()


def test_voices_are_changed_for_log_mel_alone(folder: Path):
    loud = VoiceConfig(noise=1.0, noise_db=(0.0, 0.0), vtlp=0.5)
    still = VoiceConfig(noise=0.0, vtlp=0.0)
    for front_end, changes in ((WHISPER, False), (FrontEndConfig(), True)):
        window = WindowSpec(12, 4, front_end)
        plain, other = (
            SpeechClips(RECORDS, folder, window, voice, balance=0.0, seed=0)[3]
            for voice in (still, loud)
        )
        assert torch.equal(plain.features, other.features) != changes


def test_log_mel_is_not_kept(folder: Path):
    hearing = FeatureCache(FrontEndConfig(), folder)
    extract_features(hearing, RECORDS, folder)
    sound = read(folder, RECORDS[0]).sound
    assert torch.equal(hearing(sound), log_mel(sound[None]))
    assert not [path for path in folder.iterdir() if path.is_dir()]
