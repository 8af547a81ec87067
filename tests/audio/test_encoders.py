import pytest
import torch

import mien.audio.encoders
from mien.audio.encoders import (
    FrameStem,
    GlobalAudioEncoder,
    GlobalEncoderConfig,
    LocalAudioEncoder,
    LocalEncoderConfig,
    StemStream,
)
from mien.audio.features import SAMPLE_RATE, log_mel

FEATURES, WIDTH = 6, 16


def local(causal=False):
    return LocalAudioEncoder(FEATURES, WIDTH, LocalEncoderConfig(layers=1, state=4, causal=causal))


def whole():
    return GlobalAudioEncoder(FEATURES, WIDTH, GlobalEncoderConfig(layers=1, state=4))


def heard_from(encoder, features, frame):
    """Which steps the output at `frame` depends on."""
    features = features.clone().requires_grad_()
    encoder(features, torch.tensor([features.shape[1]]))[0, frame].sum().backward()
    return features.grad[0].abs().sum(-1).nonzero()[:, 0].tolist()


def test_a_frame_hears_its_own_four_steps_and_two_on_each_side():
    stem = FrameStem(FEATURES, WIDTH, causal=False)
    assert heard_from(stem, torch.randn(1, 40, FEATURES), 5) == list(range(18, 26))


def test_a_causal_frame_hears_its_own_four_steps_and_four_before():
    stem = FrameStem(FEATURES, WIDTH, causal=True)
    assert heard_from(stem, torch.randn(1, 40, FEATURES), 5) == list(range(16, 24))


def test_the_causal_ear_never_hears_the_future_and_the_other_does():
    features = torch.randn(1, 40, FEATURES)
    # The output is a layer norm whose sum is constant, hence the weights.
    for causal, last in ((True, 23), (False, 39)):
        encoder = local(causal)
        torch.nn.init.normal_(encoder.norm.weight)
        assert max(heard_from(encoder, features, 5)) == last


def test_a_sound_moves_its_own_frame_most():
    torch.manual_seed(0)
    quiet = torch.zeros(1, SAMPLE_RATE)
    sound = quiet.clone()
    sound[0, 12 * 640 : 13 * 640] = 0.1 * torch.randn(640)
    lengths = torch.tensor([100])
    moved = torch.zeros(25)
    for _ in range(20):  # single random nets may respond more to the echo
        encoder = LocalAudioEncoder(80, WIDTH, LocalEncoderConfig(layers=1, state=4))
        gap = encoder(log_mel(sound), lengths) - encoder(log_mel(quiet), lengths)
        moved += gap.detach()[0].norm(dim=-1)
    assert moved.argmax() == 12


@pytest.mark.parametrize("causal", [False, True])
def test_padding_influences_nothing(causal):
    lengths = torch.tensor([24, 40])
    features = torch.randn(2, 40, FEATURES)
    features[0, 24:] = 1e3
    ear, overall = local(causal), whole()
    alone = features[:1, :24]
    together = ear(features, lengths)
    torch.testing.assert_close(together[:1, :6], ear(alone, lengths[:1]), atol=1e-5, rtol=1e-4)
    assert not together[0, 6:].any()
    torch.testing.assert_close(
        overall(features, lengths)[:1], overall(alone, lengths[:1]), atol=1e-5, rtol=1e-4
    )


def test_the_utterance_is_heard_to_both_ends():
    features = torch.randn(1, 40, FEATURES, requires_grad=True)
    encoder = whole()
    torch.nn.init.normal_(encoder.norm.weight)
    encoder(features, torch.tensor([40])).sum().backward()
    assert features.grad is not None and (features.grad[0].abs().sum(-1) > 0).all()


@pytest.mark.parametrize("lengths", [[10, 40], [0, 40]])
def test_lengths_that_are_no_whole_frames_are_refused(lengths):
    with pytest.raises(ValueError, match="multiples of 4"):
        whole()(torch.randn(2, 40, FEATURES), torch.tensor(lengths))


def test_steps_that_are_no_whole_frames_are_refused():
    with pytest.raises(ValueError, match="41 is not a whole number of 4"):
        local()(torch.randn(1, 41, FEATURES), torch.tensor([40]))


@pytest.mark.parametrize("encoder", [local(), local(causal=True), whole()])
def test_every_parameter_gets_a_gradient(encoder):
    encoded = encoder(torch.randn(2, 16, FEATURES), torch.tensor([16, 12]))
    encoded.square().mul(torch.randn_like(encoded)).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in encoder.parameters())


@pytest.mark.parametrize("encoder", [local(), local(causal=True), whole()])
@pytest.mark.parametrize("lengths", [[160], [1, 2, 3, 94, 57, 3], [4] * 40])
@torch.no_grad()
def test_a_long_sound_in_pieces_is_encoded_as_at_once(encoder, lengths, monkeypatch):
    monkeypatch.setattr(mien.audio.encoders, "PIECE", 7)
    features = torch.randn(1, 160, FEATURES)
    stream = StemStream(encoder.stem)
    for part in features.split(lengths, 1):
        stream.push(part)
    found = encoder.encode_frames(stream.finish())
    torch.testing.assert_close(found, encoder(features, torch.tensor([160])), atol=1e-6, rtol=1e-5)
