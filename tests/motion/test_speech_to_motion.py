from dataclasses import asdict, replace

import pytest
import torch

from mien.config import restore
from mien.motion.conditioning import (
    ConditionDropout,
    ConditionMask,
    all_conditions,
    draw_condition_mask,
    without_audio,
)
from mien.motion.objective import take_window
from mien.motion.speech_to_motion import SpeechToMotion, SpeechToMotionConfig
from mien.types import AudioContext, Conditioning
from tests.tiny_nets import TINY_SPEECH


def conditioning_of(speech, clip):
    audio = speech.encode_audio(clip.features, clip.feature_lengths)
    return Conditioning(
        audio=take_window(audio, clip.start, clip.motion.shape[1]),
        history=clip.history,
        history_known=clip.history_known,
        appearance=clip.appearance,
        source_motion=clip.source_motion,
    )


def predict(speech, conditioning, conditions=None, frames=8):
    draw = torch.Generator().manual_seed(3)
    mixture = torch.randn(len(conditioning.appearance), frames, 4, generator=draw)
    level = torch.full((len(mixture),), 0.6)
    embedded = speech.embed(conditioning, conditions or all_conditions(conditioning))
    return speech.denoise(mixture, level, embedded)


def changed(before, after):
    """Which samples differ."""
    return [not torch.allclose(a, b, atol=1e-6) for a, b in zip(before, after, strict=True)]


def test_audio_encoders_take_four_steps_to_a_frame(make_speech, clip):
    audio = make_speech().encode_audio(clip.features, clip.feature_lengths)
    assert audio.local.shape == (4, 20, 8) and audio.whole.shape == (4, 8)
    assert not audio.local[2, 15:].any() and audio.local[2, :15].any()


def frame_by_frame(speech):
    """Mute attention, all that mixes frames in the denoiser."""
    with torch.no_grad():
        for block in speech.denoiser.blocks:
            block.attention.out_proj.weight.zero_()
            block.attention.out_proj.bias.zero_()
    return speech


def test_the_noisy_motion_of_a_frame_is_answered_at_that_frame(make_speech, clip):
    speech = frame_by_frame(make_speech())
    conditioning = conditioning_of(speech, clip)
    conditions = speech.embed(conditioning, all_conditions(conditioning))
    mixture, level = torch.randn(4, 8, 4), torch.full((4,), 0.6)
    other = mixture.clone()
    other[:, 2] += 1
    gap = speech.denoise(mixture, level, conditions) - speech.denoise(other, level, conditions)
    assert (gap.abs().amax(dim=(0, 2)) > 1e-4).tolist() == [frame == 2 for frame in range(8)]


def test_the_sound_of_a_frame_modulates_that_frame(make_speech, clip):
    speech = frame_by_frame(make_speech())
    conditioning = conditioning_of(speech, clip)
    local = conditioning.audio.local.clone()
    local[:, 5] += 1
    other = replace(conditioning, audio=AudioContext(conditioning.audio.whole, local))
    gap = (predict(speech, conditioning) - predict(speech, other)).abs().amax(dim=(0, 2))
    assert (gap > 1e-4).tolist() == [frame == 5 for frame in range(8)]


def test_a_window_takes_the_sound_from_its_own_start():
    local = torch.arange(10.0)[None, :, None].repeat(2, 1, 3)
    audio = AudioContext(whole=torch.zeros(2, 3), local=local)
    window = take_window(audio, torch.tensor([4, -2]), 3).local[..., 0]
    torch.testing.assert_close(window, torch.tensor([[4.0, 5.0, 6.0], [0.0, 0.0, 0.0]]))


CHANGES = {
    "whole": lambda c: replace(c, audio=AudioContext(c.audio.whole + 1, c.audio.local)),
    "local": lambda c: replace(c, audio=AudioContext(c.audio.whole, c.audio.local + 1)),
    "history": lambda c: replace(c, history=c.history + torch.randn_like(c.history)),
    "appearance": lambda c: replace(c, appearance=c.appearance.flip(1)),
    "source": lambda c: replace(
        # The history moves along, so that only M^0 itself is another.
        c,
        source_motion=c.source_motion + 1,
        history=c.history + 1,
    ),
}
NOTHING = torch.zeros(4, dtype=torch.bool)
ALL = ~NOTHING


@pytest.mark.parametrize("name", CHANGES)
def test_every_condition_is_heeded_when_told(make_speech, clip, name):
    speech = make_speech()
    conditioning = conditioning_of(speech, clip)
    moved = changed(predict(speech, conditioning), predict(speech, CHANGES[name](conditioning)))
    expected = [False, True, True, True] if name == "history" else [True] * 4
    assert moved == expected  # the first sample has no history


@pytest.mark.parametrize(
    ("name", "conditions"),
    [
        ("whole", ConditionMask(NOTHING, ALL, ALL)),
        ("local", ConditionMask(NOTHING, ALL, ALL)),
        ("history", ConditionMask(ALL, NOTHING, ALL)),
        ("appearance", ConditionMask(ALL, ALL, NOTHING)),
        ("source", ConditionMask(ALL, ALL, NOTHING)),
    ],
)
def test_a_withheld_condition_leaves_no_trace(make_speech, clip, name, conditions):
    speech = make_speech()
    conditioning = conditioning_of(speech, clip)
    other = CHANGES[name](conditioning)
    torch.testing.assert_close(
        predict(speech, conditioning, conditions), predict(speech, other, conditions)
    )


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"global_encoder": None}, "global_encoder"),
        ({"local_encoder": None}, "local_encoder"),
        ({"appearance": False}, "conditions.appearance"),
        ({"source_motion": False}, "conditions.source_motion"),
        ({"history": 0}, None),
    ],
)
def test_each_condition_can_be_ablated(make_speech, clip, change, name):
    speech = make_speech(**change)
    assert not [key for key in speech.state_dict() if name and key.startswith(name)]
    if change.get("history") == 0:
        clip = replace(clip, history=clip.history[:, :0])
    made = predict(speech, conditioning_of(speech, clip))
    assert made.shape == (4, 8, 4) and made.isfinite().all()


def test_audio_alone_is_withheld_for_guidance(make_speech, clip):
    conditioning = conditioning_of(make_speech(), clip)
    conditions = without_audio(conditioning)
    assert not conditions.audio.any() and conditions.history.all() and conditions.source.all()


def test_dropout_draws_the_shares_it_was_given():
    conditions = draw_condition_mask(
        torch.ones(20_000, dtype=torch.bool),
        ConditionDropout(audio=0.2, everything=0.1, history=0.5),
        torch.Generator().manual_seed(0),
    )
    # Standard error of a share of 20,000 is below 0.004.
    assert conditions.source.float().mean().item() == pytest.approx(0.9, abs=0.015)
    assert conditions.audio.float().mean().item() == pytest.approx(0.9 * 0.8, abs=0.015)
    assert conditions.history.float().mean().item() == pytest.approx(0.9 * 0.5, abs=0.015)
    assert not (conditions.audio & ~conditions.source).any()


def test_a_batch_of_two_equals_two_batches_of_one(make_speech, clip):
    speech = make_speech()
    together = predict(speech, conditioning_of(speech, clip))
    draw = torch.Generator().manual_seed(3)
    mixture = torch.randn(4, 8, 4, generator=draw)
    for i in range(4):
        steps = int(clip.feature_lengths[i])
        one = type(clip)(**{k: v[i : i + 1] for k, v in vars(clip).items()})
        one = replace(one, features=one.features[:, :steps])
        conditioning = conditioning_of(speech, one)
        conditions = speech.embed(conditioning, all_conditions(conditioning))
        alone = speech.denoise(mixture[i : i + 1], torch.full((1,), 0.6), conditions)
        torch.testing.assert_close(alone, together[i : i + 1], atol=1e-4, rtol=1e-4)


def test_a_fresh_net_answers_the_mean_motion(make_speech, clip):
    speech = SpeechToMotion(make_speech().config)
    speech.space.fit(torch.randn(50, 10), torch.randn(3, 10))
    assert not predict(speech, conditioning_of(speech, clip)).any()


def test_the_net_that_ships_fits_its_budget():
    speech = SpeechToMotion(SpeechToMotionConfig.preset("small"))
    tensors = [*speech.parameters(), *speech.buffers()]
    assert 2 * sum(t.numel() for t in tensors) < 12e6  # bytes in float16


def test_a_config_survives_a_checkpoint():
    config = SpeechToMotionConfig(appearance_dim=7, global_encoder=None, parameterisation="flow")
    assert restore(SpeechToMotionConfig, asdict(config)) == config


def test_a_history_longer_than_the_window_is_refused():
    with pytest.raises(ValueError, match="history 9 must be shorter than window 8"):
        SpeechToMotionConfig(appearance_dim=1, history=9, window=8)


def test_noise_form_is_bounded_at_pure_noise():
    speech = SpeechToMotion(replace(TINY_SPEECH, parameterisation="noise"))
    with torch.no_grad():
        for parameter in speech.denoiser.parameters():
            parameter.add_(torch.randn_like(parameter))
    audio = AudioContext(torch.randn(2, 16), torch.randn(2, 20, 16))
    motion = torch.randn(2, 768)
    given = Conditioning(
        audio, motion[:, None].repeat(1, 4, 1), torch.zeros(2).bool(), torch.randn(2, 32), motion
    )
    speech.space.fit(torch.randn(100, 768), torch.zeros(2, 768))
    embedded = speech.embed(given, all_conditions(given))
    clean = speech.denoise(torch.randn(2, 20, 8), torch.ones(2), embedded)
    assert float(clean.abs().max()) == 5.0
