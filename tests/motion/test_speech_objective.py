from dataclasses import replace

import pytest
import torch

from mien.diffusion.objective import LossWeights
from mien.motion.conditioning import ConditionDropout
from mien.motion.objective import (
    SpeechObjectiveConfig,
    _history,
    direct_loss,
    speech_objective,
)

NO_DROPOUT = ConditionDropout(audio=0.0, everything=0.0, history=0.0)


def without_lips(**changes):
    """The tiny net's motion holds no mesh."""
    return SpeechObjectiveConfig(closed_lips=1.0, lips=0.0, **changes)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("form", ["x0", "noise", "flow", "v"])
@pytest.mark.parametrize("schedule", ["cosine", "flow"])
def test_every_form_trains_every_parameter(make_speech, clip, form, schedule):
    speech = make_speech(parameterisation=form, schedule=schedule)
    config = without_lips(dropout=ConditionDropout(0.5, 0.2, 0.5))
    for seed in range(4):  # enough draws that something is dropped and something kept
        loss, parts = speech_objective(speech, clip, config, seeded(seed))
        assert loss.isfinite() and not any(part.requires_grad for part in parts.values())
        loss.backward()
    silent = [n for n, p in speech.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []


def test_the_same_seed_gives_the_same_loss_and_another_seed_another(make_speech, clip):
    speech, config = make_speech(), without_lips()
    first, again, other = (
        speech_objective(speech, clip, config, seeded(s))[0].item() for s in (1, 1, 2)
    )
    assert first == again != other


def test_a_few_steps_of_training_learn_the_clip(make_speech, clip):
    speech = make_speech().train()
    config = without_lips(dropout=NO_DROPOUT, gain_augmentation=0.0)
    optimizer = torch.optim.Adam(speech.parameters(), lr=3e-3)
    losses = []
    draws = seeded()
    for _ in range(80):
        loss, _ = speech_objective(speech, clip, config, draws)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-20:]) < 0.4 * sum(losses[:20])


def test_true_history_gets_noise_of_the_size_that_was_asked(make_speech, clip):
    speech = make_speech()
    many = replace(clip, **{k: v.repeat_interleave(50, 0) for k, v in vars(clip).items()})
    config = without_lips(predicted_history=0.0, history_noise=(0.1, 0.1))
    audio = speech.encode_audio(many.features, many.feature_lengths)
    made = _history(speech, many, audio, config, seeded())
    gap = speech.space.encode(made, many.source_motion) - speech.space.encode(
        many.history, many.source_motion
    )
    assert gap.std().item() == pytest.approx(0.1, rel=0.1)


def test_predicted_history_is_the_nets_prediction_where_there_was_a_past(make_speech, clip):
    speech = make_speech()
    config = without_lips(predicted_history=1.0, history_noise=(0.0, 0.0))
    audio = speech.encode_audio(clip.features, clip.feature_lengths)
    made = _history(speech, clip, audio, config, seeded())
    true = speech.space.decode(
        speech.space.encode(clip.history, clip.source_motion), clip.source_motion
    )
    replaced = (made - true).abs().amax(dim=(1, 2)) > 1e-3
    assert replaced.tolist() == clip.history_known.tolist()
    assert not made.requires_grad


def test_a_perfect_net_predicts_the_true_history(make_speech, clip):
    # An x0 net whose answer is the motion of the right frames reveals any shift of the window.
    speech = make_speech()
    config = without_lips(predicted_history=1.0, history_noise=(0.0, 0.0))
    motion = torch.cat([clip.history, clip.motion], dim=1)[clip.history_known, :8]
    truth = speech.space.encode(motion, clip.source_motion[clip.history_known])
    speech.denoise = lambda mixture, level, embedded: truth
    made = _history(
        speech, clip, speech.encode_audio(clip.features, clip.feature_lengths), config, seeded()
    )
    again = speech.space.encode(made, clip.source_motion)
    torch.testing.assert_close(again, speech.space.encode(clip.history, clip.source_motion))


def test_motion_and_sound_are_taken_from_the_same_frames(make_speech, clip):
    speech = make_speech()
    given, embed = [], speech.embed
    speech.embed = lambda conditioning, who: (given.append(conditioning), embed(conditioning, who))[
        1
    ]
    config = without_lips(dropout=NO_DROPOUT, predicted_history=1.0, gain_augmentation=0.0)
    speech_objective(speech, clip, config, seeded())
    before, window = given  # the net's own prediction of the history, then the window itself

    local = speech.encode_audio(clip.features, clip.feature_lengths).local
    for i, start in enumerate(clip.start.tolist()):
        torch.testing.assert_close(window.audio.local[i], local[i, start : start + 8])
    for row, i in enumerate(clip.history_known.nonzero()[:, 0].tolist()):
        first = int(clip.start[i]) - 4
        torch.testing.assert_close(before.audio.local[row], local[i, first : first + 8])


def test_the_level_of_a_recording_is_varied_unless_its_features_are_pretrained(make_speech, clip):
    speech = make_speech()
    losses = {
        speech_objective(speech, clip, without_lips(gain_augmentation=shift), seeded())[0].item()
        for shift in (0.0, 10.0)
    }
    assert len(losses) == 2


def test_the_loss_looks_at_the_dimensions_by_their_variance(make_speech, clip):
    speech = make_speech()
    only = LossWeights(velocity=0.0, acceleration=0.0)
    flat, full = (
        speech_objective(speech, clip, without_lips(weights=only, variance_weight=w), seeded())[
            0
        ].item()
        for w in (0.0, 1.0)
    )
    assert flat != pytest.approx(full, rel=1e-3)


def test_the_direct_head_teaches_itself_and_the_local_encoder(make_speech, clip):
    speech = make_speech(direct_head=True)
    all_dropped = ConditionDropout(audio=1.0, everything=1.0, history=1.0)
    _, parts = speech_objective(speech, clip, without_lips(dropout=all_dropped), seeded())
    gradients = {}
    for weight in (0.0, 1.0, 2.0):
        speech.zero_grad()
        config = without_lips(dropout=all_dropped, predicted_history=0.0, direct=weight)
        speech_objective(speech, clip, config, seeded())[0].backward()
        gradients[weight] = {
            name: parameter.grad.clone()
            for name, parameter in speech.named_parameters()
            if name.startswith(("direct", "local")) and parameter.grad is not None
        }
    assert not any(gradient.any() for gradient in gradients[0.0].values())
    assert all(gradient.any() for gradient in gradients[1.0].values())
    assert {"direct.weight", "direct.bias", "local_encoder.stem.to_frames.weight"} <= set(
        gradients[1.0]
    )
    for name, gradient in gradients[1.0].items():
        torch.testing.assert_close(gradients[2.0][name], 2 * gradient)
    assert parts["direct"] > 0 and not parts["direct"].requires_grad


def test_the_direct_loss_in_closed_form():
    clean = torch.zeros(1, 3, 2)
    steady = torch.full((1, 3, 2), 2.0)  # off by 2 everywhere: 2 - 1/2, and no velocity
    torch.testing.assert_close(direct_loss(steady, clean), torch.tensor(1.5))
    rising = torch.tensor([0.0, 0.5, 1.0])[None, :, None].expand(1, 3, 2)
    # squares halved: (0 + 0.125 + 0.5) / 3, and 0.125 for velocities of a half
    torch.testing.assert_close(direct_loss(rising, clean), torch.tensor(0.625 / 3 + 0.125))
    torch.testing.assert_close(direct_loss(steady[:, :1], clean[:, :1]), torch.tensor(1.5))


def test_without_a_direct_head_nothing_of_it_is_there(make_speech, clip):
    speech = make_speech()
    assert not [name for name in speech.state_dict() if name.startswith("direct")]
    assert "direct" not in speech_objective(speech, clip, without_lips(), seeded())[1]
    with pytest.raises(ValueError, match="direct_head reads the local encoder"):
        make_speech(direct_head=True, local_encoder=None)
