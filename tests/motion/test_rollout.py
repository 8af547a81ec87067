from dataclasses import replace

import pytest
import torch

from mien.mesh.motion import MESH_DIM, POSE_DIM
from mien.motion.rollout import (
    SamplingConfig,
    crossfade,
    crossfade_frames,
    gaussian_smooth,
    rollout,
)
from mien.types import AudioContext

FEW = SamplingConfig(steps=3)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def voice(speech, frames, b=1):
    features = torch.randn(b, 4 * frames, 80, generator=seeded(7))
    with torch.no_grad():
        return speech.encode_audio(features)


def roll(speech, audio, sampling=FEW, seed=0, source=None):
    b = len(audio.local)
    source = torch.zeros(b, 10) if source is None else source
    return list(rollout(speech, audio, torch.ones(b, 5), source, sampling, seeded(seed)))


@pytest.mark.parametrize(
    ("blend", "frames", "windows"),
    [
        (0, 1, [1]),
        (0, 3, [3]),
        (0, 8, [8]),
        (0, 9, [8, 1]),
        (0, 20, [8, 8, 4]),
        (0, 17, [8, 8, 1]),
        (2, 8, [8]),
        (2, 9, [6, 3]),
        (2, 20, [6, 6, 8]),
        (9, 21, [6, 6, 6, 3]),
    ],
)
def test_as_many_frames_as_there_is_sound(make_speech, blend, frames, windows):
    speech = make_speech()
    made = roll(speech, voice(speech, frames), replace(FEW, crossfade=blend))
    assert [window.shape[1] for window in made] == windows
    assert all(window.isfinite().all() and not window.requires_grad for window in made)


@pytest.mark.parametrize("sampler", ["multistep", "ddim", "euler"])
def test_a_seed_decides_everything(make_speech, sampler):
    speech = make_speech()
    audio, sampling = voice(speech, 11), SamplingConfig(steps=3, sampler=sampler)
    first, again, other = (torch.cat(roll(speech, audio, sampling, s), 1) for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)


def test_windows_come_one_at_a_time(make_speech):
    speech = make_speech()
    windows = rollout(
        speech, voice(speech, 24), torch.ones(1, 5), torch.zeros(1, 10), FEW, draws := seeded()
    )
    next(windows)
    after_one = draws.get_state()
    next(windows)
    assert not torch.equal(after_one, draws.get_state())


def test_the_sound_of_a_frame_moves_that_frame_in_every_window(make_speech):
    speech = make_speech(history=0)
    with torch.no_grad():
        for block in speech.denoiser.blocks:
            block.attention.out_proj.weight.zero_()
            block.attention.out_proj.bias.zero_()
    audio = voice(speech, 20)
    local = audio.local.clone()
    local[:, 13] += 1
    before = torch.cat(roll(speech, audio), 1)
    after = torch.cat(roll(speech, AudioContext(audio.whole, local)), 1)
    moved = (before - after).abs().amax(dim=(0, 2)) > 1e-4
    assert moved.nonzero()[:, 0].tolist() == [13]


def test_a_window_knows_the_last_four_frames_before_it_and_the_first_knows_none(make_speech):
    speech = make_speech()
    seen = []
    embed = speech.embed
    speech.embed = lambda conditioning, mask: (
        seen.append(conditioning),
        embed(conditioning, mask),
    )[1]
    sampling = SamplingConfig(steps=2, guidance=1.0, crossfade=2)
    made = torch.cat(roll(speech, voice(speech, 19), sampling), dim=1)
    assert [bool(c.history_known) for c in seen] == [False, True, True]
    assert [c.audio.local.shape[1] for c in seen] == [8, 8, 8]  # the last window too is whole
    torch.testing.assert_close(seen[1].history, made[:, 2:6])
    torch.testing.assert_close(seen[2].history, made[:, 7:11])


def test_a_window_passes_smoothly_into_the_next():
    earlier, later = torch.zeros(1, 5, 1), torch.ones(1, 8, 1)
    passed = crossfade(earlier, later, 3)[0, :, 0]
    torch.testing.assert_close(passed, torch.tensor([0, 0, 5 / 32, 1 / 2, 27 / 32, 1, 1, 1]))
    assert torch.equal(crossfade(earlier, later, 0)[0, :, 0], (torch.arange(8) >= 5).float())
    assert torch.equal(crossfade(earlier[:, :0], later, 3), later)


def test_where_windows_join(make_speech):
    config = make_speech().config
    assert crossfade_frames(14, config, replace(FEW, crossfade=0)) == [8]
    assert crossfade_frames(14, config, replace(FEW, crossfade=2)) == [6, 7, 8]
    assert crossfade_frames(8, config, FEW) == []


def test_motion_is_absolute(make_speech):
    """Without M^0 as a condition, another source moves everything by the difference."""
    speech = make_speech(source_motion=False, history=0)
    audio, shift = voice(speech, 11), torch.randn(1, 10)
    still = torch.cat(roll(speech, audio), 1)
    shifted = torch.cat(roll(speech, audio, source=shift), 1)
    torch.testing.assert_close(shifted, still + shift[:, None], atol=1e-4, rtol=1e-4)


def test_guidance_follows_the_sound_further(make_speech):
    speech = make_speech()
    one, two = voice(speech, 8), voice(speech, 8)
    two = replace(two, local=two.local.flip(1))

    def gap(guidance):
        sampling = SamplingConfig(steps=1, guidance=guidance)
        return roll(speech, one, sampling)[0] - roll(speech, two, sampling)[0]

    torch.testing.assert_close(gap(3.0), 3 * gap(1.0), atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(gap(0.0), torch.zeros_like(gap(1.0)), atol=1e-5, rtol=0)


def test_no_steps_are_refused():
    with pytest.raises(ValueError, match="steps must be at least 1, not 0"):
        SamplingConfig(steps=0)


def test_a_head_that_trembles_is_steadied_and_one_that_turns_turns_on():
    times = torch.arange(40.0)[None, :, None]
    turning = times.repeat(1, 1, 6)
    torch.testing.assert_close(gaussian_smooth(turning, 1.0)[:, 4:-4], turning[:, 4:-4])
    trembling = torch.randn(1, 40, 6)
    assert (
        gaussian_smooth(trembling, 1.0).diff(n=2, dim=1).norm()
        < 0.2 * trembling.diff(n=2, dim=1).norm()
    )


def test_only_the_pose_of_a_mesh_is_steadied(make_speech):
    made = torch.randn(200, 10 + MESH_DIM)
    speech = make_speech(mesh=True, fitted=made, history=0)
    audio, source = voice(speech, 8), torch.zeros(1, 10 + MESH_DIM)
    raw, steady = (
        roll(speech, audio, replace(FEW, pose_smoothing=steady), source=source)[0]
        for steady in (0.0, 1.0)
    )
    torch.testing.assert_close(steady[..., :-POSE_DIM], raw[..., :-POSE_DIM])
    torch.testing.assert_close(steady[..., -POSE_DIM:], gaussian_smooth(raw[..., -POSE_DIM:], 1.0))
