import sys

import pytest
import torch

from mien.audio.features import log_mel
from mien.audio.pretrained import (
    FrontEndConfig,
    PretrainedSpeech,
    load_front_end,
    resample_steps,
)
from mien.errors import UserError


def test_resampling_keeps_what_changes_evenly_in_time():
    # The encoder's step j is centred at sample 320 j + 160, ours at 160 i + 80.
    hops = torch.arange(10.0) * 320 + 160
    steps = resample_steps(hops[None, :, None], 20)[0, :, 0]
    expected = torch.arange(20.0) * 160 + 80
    torch.testing.assert_close(steps[1:-1], expected[1:-1])


def test_resampling_refuses_what_would_drift():
    with pytest.raises(ValueError, match="9 encoder steps cannot become 20"):
        resample_steps(torch.zeros(1, 9, 3), 20)


def test_no_bundle_means_log_mel():
    assert load_front_end(FrontEndConfig()) is log_mel
    with pytest.raises(ValueError, match="80 features per step, but dims is 768"):
        FrontEndConfig(dims=768)


@pytest.mark.parametrize("config", [FrontEndConfig(), FrontEndConfig("whisper2", dims=384)])
def test_features_are_the_same_under_autocast(config):
    front_end, waveform = load_front_end(config), 0.1 * torch.randn(1, 8000)
    with torch.no_grad():
        exact = front_end(waveform)
        with torch.autocast("cpu", torch.bfloat16):
            features = front_end(waveform)
    assert torch.equal(features, exact)


def test_a_missing_torchaudio_is_one_clear_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchaudio", None)
    with pytest.raises(UserError, match=r"WAV2VEC2_BASE needs torchaudio.*mien\[pretrained\]"):
        load_front_end(FrontEndConfig(bundle="WAV2VEC2_BASE", dims=768))


@pytest.fixture(scope="module")
def torchaudio():
    try:
        import torchaudio
    except (ImportError, OSError) as error:
        pytest.skip(f"needs a torchaudio that fits this torch: {error}")
    return torchaudio


@pytest.fixture(scope="module")
def speech_encoder(torchaudio):
    """wav2vec 2.0 with random weights: the real shapes without a download."""
    torch.manual_seed(0)
    return PretrainedSpeech(torchaudio.models.wav2vec2_base(), layer=2)


@pytest.mark.parametrize("samples", [1, 640, 641, 16000])
def test_a_pretrained_encoder_gives_the_same_steps_as_log_mel(speech_encoder, samples):
    waveform = 0.1 * torch.randn(1, samples)
    assert speech_encoder(waveform).shape == (1, log_mel(waveform).shape[1], 768)


def test_a_pretrained_encoder_is_frozen(speech_encoder):
    assert not speech_encoder(torch.randn(1, 2000)).requires_grad
    assert not any(p.requires_grad for p in speech_encoder.parameters())


def test_an_unknown_bundle_is_named(torchaudio):
    with pytest.raises(UserError, match="no speech encoder named NOPE"):
        load_front_end(FrontEndConfig(bundle="NOPE", dims=768))
