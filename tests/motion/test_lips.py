"""Lips in generated motion: measured, weighed where they close, read off the sound."""

from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch

from mien.data.lips_from_sound import LipsFromSound
from mien.errors import UserError
from mien.media import load_audio
from mien.mesh.motion import MESH_DIM, POSE_DIM
from mien.mesh.neutral import lip_gaps
from mien.metrics import correlation
from mien.motion.lips import CLOSED, closed, lip_measures
from mien.motion.objective import SpeechObjectiveConfig, frame_weights, lip_loss, speech_objective
from mien.training.optimization import OptimizerConfig
from mien.training.stage2 import DiffusionStage
from mien.types import FPS, SAMPLE_RATE
from tests.mesh.faces import open_mouth

SENTENCE = Path(str(files("mien") / "assets" / "demo.wav"))


def motion_of(*gaps: float) -> torch.Tensor:
    """Frames of ten numbers of implicit motion and a mesh whose lips are so far apart."""
    offsets = [open_mouth(np.zeros((468, 3)), gap).ravel() for gap in gaps]
    mesh = torch.from_numpy(np.stack(offsets)).float()
    return torch.cat((torch.ones(len(gaps), 10), mesh, torch.ones(len(gaps), POSE_DIM)), 1)[None]


def test_gap_and_width_are_those_of_the_mesh():
    gaps = (0.0, 0.1, 0.3)
    motion = motion_of(*gaps)
    heads = motion[0, :, 10 : 10 + 468 * 3].reshape(-1, 468, 3).double().numpy()
    expected = lip_gaps(heads)[:, 3:6].mean(axis=1)
    np.testing.assert_allclose(lip_measures(motion)[0, :, 0].numpy(), expected, atol=1e-6)
    wide = motion.clone()
    wide[..., 10 + 3 * 291] += 0.05  # the corner on the picture's right
    torch.testing.assert_close(lip_measures(wide)[..., 1], torch.full((1, 3), 0.05))


def test_frames_of_closed_lips_count_more():
    motion = motion_of(0.0, CLOSED / 2, 2 * CLOSED, 0.3)
    assert closed(motion).tolist() == [[1, 1, 0, 0]]
    weights = frame_weights(motion, 3.0)
    assert weights is not None and weights.tolist() == [[3, 3, 1, 1]]
    assert frame_weights(motion, 1.0) is None
    nobody = torch.cat((motion[..., :10], torch.zeros_like(motion[..., 10:])), dim=-1)
    unseen = frame_weights(nobody, 3.0)
    assert unseen is not None and unseen.tolist() == [[1, 1, 1, 1]]
    assert lip_loss(motion, nobody, torch.ones(1)) == 0


def test_lips_that_touch_matter_more_than_wide_ones_a_little_wider():
    real = motion_of(0.0, 0.05, 0.1, 0.3)
    sure = torch.ones(1)
    assert lip_loss(real, real, sure) == 0
    a, b = motion_of(0.03, 0.05, 0.1, 0.3), motion_of(0.0, 0.05, 0.1, 0.33)
    assert lip_loss(a, real, sure) > 5 * lip_loss(b, real, sure)
    pressed = motion_of(-0.05, 0.05, 0.1, 0.3).requires_grad_()
    (gradient,) = torch.autograd.grad(lip_loss(pressed, real, sure), pressed)
    assert gradient[0, 0].any(), "lips pressed on each other are pushed apart"


def test_lips_are_part_of_the_objective(make_speech, clip):
    def mesh_clip():
        frames = motion_of(*np.linspace(0, 0.3, clip.motion.shape[1])).repeat(4, 1, 1)
        noise = 0.01 * torch.randn(frames.shape)
        history = frames[:, :4]
        return replace(clip, motion=frames + noise, history=history, source_motion=frames[:, 0])

    made = mesh_clip()
    speech = make_speech(mesh=True, fitted=made.motion.flatten(0, 1))
    plain, lips = (
        SpeechObjectiveConfig(closed_lips=c, lips=w) for c, w in ((1.0, 0.0), (3.0, 0.5))
    )
    parts = [
        speech_objective(speech, made, config, torch.Generator().manual_seed(0))[1]
        for config in (plain, lips)
    ]
    assert "lips" not in parts[0] and parts[1]["lips"] > 0
    assert parts[0]["prediction"] != parts[1]["prediction"]


def test_lips_without_a_mesh_are_refused(make_speech):
    config = make_speech().config
    with pytest.raises(UserError, match=r"set speech\.mesh to true"):
        DiffusionStage(config, SpeechObjectiveConfig(lips=0.5), OptimizerConfig())


@pytest.fixture(scope="module")
def lips_from_sound(shipped) -> LipsFromSound:
    return LipsFromSound()


class TestLipsHeard:
    def test_one_value_per_frame_and_more_for_speech_than_for_silence(
        self, lips_from_sound: LipsFromSound
    ):
        speech = load_audio(SENTENCE)
        gap = lips_from_sound(speech)
        assert len(gap) == len(speech) // (SAMPLE_RATE // FPS)
        silence = lips_from_sound(torch.zeros(SAMPLE_RATE))
        assert gap.std() > 2 * silence.std() and gap.mean() > 0.02
        assert len(lips_from_sound(speech[:100])) == 0

    def test_late_sound_moves_the_lips_as_much(self, lips_from_sound: LipsFromSound):
        speech = load_audio(SENTENCE)
        late = torch.cat((torch.zeros(5 * SAMPLE_RATE // FPS), speech))
        a, b = (torch.from_numpy(lips_from_sound(sound)) for sound in (speech, late))
        at = {lag: correlation(b[lag : lag + 100], a[:100]) for lag in range(11)}
        assert max(at, key=lambda lag: at[lag]) == 5 and at[5] > 0.9


def test_the_mesh_stands_behind_the_implicit_motion():
    assert motion_of(0.1).shape == (1, 1, 10 + MESH_DIM)
