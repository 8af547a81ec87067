"""Whisper's first layers are those of transformers, in time with the frames and without seams."""

import numpy as np
import pytest
import torch

from mien.audio import whisper
from mien.audio.features import SAMPLE_RATE, frame_count, log_mel
from mien.audio.pretrained import FrontEndConfig, feature_pieces, load_front_end, resample_steps
from mien.audio.whisper import (
    CHUNK,
    OVERLAP,
    WHISPER_WEIGHTS,
    WIDTH,
    WhisperEncoder,
    chunk_starts,
    load_whisper,
    positions,
    whisper_log_mel,
)
from tests.tiny_nets import voice

CONFIG = FrontEndConfig(bundle="whisper2", dims=WIDTH)


@pytest.fixture(scope="module")
def encoder() -> WhisperEncoder:
    return load_whisper()


@pytest.fixture(scope="module")
def front_end():
    return load_front_end(CONFIG)


def sound(seconds: float) -> torch.Tensor:
    return torch.from_numpy(np.asarray(voice(seconds), dtype=np.float32))[None]


def test_log_mel_is_that_of_transformers():
    transformers = pytest.importorskip("transformers")
    extractor = transformers.WhisperFeatureExtractor(feature_size=80)
    waveform = sound(1.2)
    given = extractor(
        waveform[0].numpy(), sampling_rate=SAMPLE_RATE, padding=False, return_tensors="pt"
    )
    torch.testing.assert_close(whisper_log_mel(waveform), given.input_features, rtol=0, atol=2e-4)


def test_encoder_is_that_of_transformers(encoder, front_end):
    pytest.importorskip("transformers")
    from safetensors.torch import load_file
    from transformers import WhisperConfig
    from transformers.models.whisper.modeling_whisper import WhisperEncoder as Reference

    waveform = sound(1.6)  # 40 frames
    reference = Reference(
        WhisperConfig(
            d_model=WIDTH, encoder_layers=2, encoder_attention_heads=6, encoder_ffn_dim=4 * WIDTH,
            num_mel_bins=80, max_source_positions=80,
        )
    ).eval()  # fmt: skip
    left_out = reference.load_state_dict(load_file(WHISPER_WEIGHTS), strict=False)
    assert not left_out.unexpected_keys
    assert set(left_out.missing_keys) == {
        "embed_positions.weight", "layer_norm.weight", "layer_norm.bias",
    }  # fmt: skip
    torch.testing.assert_close(reference.embed_positions.weight, positions(80), rtol=0, atol=1e-4)
    setattr(reference, "layer_norm", torch.nn.Identity())  # noqa: B010 (of Whisper's last layer)

    mel = whisper_log_mel(torch.nn.functional.pad(waveform, (0, 160)))[:, :, 1:]
    with torch.no_grad():
        expected = reference(mel).last_hidden_state
        torch.testing.assert_close(encoder.encode(mel), expected, rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(
            front_end(waveform), resample_steps(expected, 160), rtol=1e-3, atol=1e-3
        )


@pytest.mark.parametrize("samples", [1, 640, 641, 16000])
def test_steps_are_those_of_log_mel(front_end, samples):
    waveform = 0.1 * torch.randn(1, samples)
    features = front_end(waveform)
    assert features.shape == (1, log_mel(waveform).shape[1], WIDTH)
    assert features.dtype == torch.float32 and features.isfinite().all()
    torch.testing.assert_close(features, front_end(waveform), rtol=0, atol=0)


def test_it_is_frozen(front_end):
    assert not front_end(torch.randn(1, 2000)).requires_grad
    assert not front_end.training and not any(p.requires_grad for p in front_end.parameters())


def test_silence_gives_numbers(front_end):
    assert front_end(torch.zeros(2, 3000)).isfinite().all()


def test_a_batch_is_its_rows(front_end):
    loud, soft = sound(0.8), 0.1 * sound(0.8).flip(1)
    both = front_end(torch.cat([loud, soft]))
    alone = torch.cat([front_end(loud), front_end(soft)])
    torch.testing.assert_close(both, alone, rtol=1e-4, atol=1e-4)


def test_the_filled_frame_is_silence(front_end):
    waveform = sound(1.0)[:, :15000]
    filled = torch.nn.functional.pad(waveform, (0, frame_count(15000) * 640 - 15000))
    torch.testing.assert_close(front_end(waveform), front_end(filled), rtol=0, atol=0)


def test_a_step_stands_on_the_middle_of_its_sound(encoder, monkeypatch):
    monkeypatch.setattr(encoder, "encode", lambda mel: mel[:, :1, ::2].transpose(1, 2))
    for step in (0, 7, 49):
        click = torch.zeros(1, 16000)
        click[0, 320 * step + 160] = 1.0
        energy = encoder(click)[0, :, 0]
        around = [energy[i] for i in (step - 1, step + 1) if 0 <= i < 50]
        assert energy.argmax() == step and all(energy[step] > beside for beside in around)
    symmetric = torch.zeros(1, 16000)
    symmetric[0, 320 * 20 + 160] = 1.0
    energy = encoder(symmetric)[0, :, 0]
    torch.testing.assert_close(energy[19], energy[21])


def test_pieces_cover_the_sound_and_overlap():
    for steps in (CHUNK + 1, 2 * CHUNK, 3250, 9000):
        starts = chunk_starts(steps)
        assert starts[0] == 0 and starts[-1] == steps - CHUNK
        assert max(np.diff(starts)) <= CHUNK - OVERLAP


def test_pieces_are_joined_without_a_seam(encoder, monkeypatch):
    """Pieces that disagree by 1 are joined by a slope; those that agree by what they say."""
    calls: list[int] = []

    def number(mel):
        calls.append(mel.shape[2])
        return torch.full((1, mel.shape[2] // 2, WIDTH), float(len(calls)))

    monkeypatch.setattr(encoder, "encode", number)
    joined = encoder(torch.zeros(1, 65 * SAMPLE_RATE))[0, :, 0]
    assert set(calls) == {2 * CHUNK} and len(joined) == 65 * 50
    assert joined[0] == 1 and joined[-1] == pytest.approx(len(calls))
    slopes = joined.diff()
    assert slopes.min() > -1e-5 and slopes.max() < 2 / OVERLAP
    monkeypatch.setattr(encoder, "encode", lambda mel: torch.ones(1, mel.shape[2] // 2, WIDTH))
    torch.testing.assert_close(encoder(torch.zeros(1, 65 * SAMPLE_RATE)), torch.ones(1, 3250, 384))


@pytest.mark.parametrize("seconds", [0.03, 1.0, 10.0, 10.04, 26.3])
def test_features_in_pieces_are_those_of_all_steps(encoder, seconds):
    """Steps are interpolated across the borders of pieces as within them."""
    waveform = sound(seconds)
    steps = encoder(waveform)
    wanted = resample_steps(steps, 2 * steps.shape[1])
    found = torch.cat(list(feature_pieces(CONFIG, waveform)), dim=1)
    assert found.shape[1] == 4 * frame_count(waveform.shape[1])
    torch.testing.assert_close(found, wanted, atol=1e-6, rtol=0)


def test_mel_steps_of_a_part_are_those_of_the_whole_sound():
    waveform = sound(3.0)
    padded = torch.nn.functional.pad(waveform, (0, 160))
    parts = [whisper._log_mel(waveform, a, b) for a, b in ((0, 7), (7, 200), (200, 300))]
    level = torch.cat([whisper._log_mel(waveform, -1, 0), *parts], dim=2)
    wanted = whisper_log_mel(padded)
    found = (level.maximum(level.amax() - 8) + 4) / 4
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)


def test_what_is_heard_of_a_long_sound_depends_on_its_pieces_alone(front_end):
    torch.manual_seed(0)
    long = 0.1 * torch.randn(1, 65 * SAMPLE_RATE)
    long[0, 100] = 3.0  # the loudest moment, which levels all pieces, stays
    other = long.clone()
    other[0, -10 * SAMPLE_RATE :] = 0.05 * torch.randn(10 * SAMPLE_RATE)
    first, second = front_end(long)[0], front_end(other)[0]
    assert first.shape == (6500, WIDTH) and first.isfinite().all()
    torch.testing.assert_close(first[:4500], second[:4500], rtol=0, atol=0)
    assert not torch.allclose(first[5700:], second[5700:], atol=0.1)


def test_other_dims_are_refused():
    with pytest.raises(ValueError, match="whisper2 has 384 features per step, but dims is 80"):
        FrontEndConfig(bundle="whisper2")
