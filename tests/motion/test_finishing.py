"""What is done to generated motion before it is drawn."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from mien.mesh.motion import MESH_DIM, POSE_DIM
from mien.mesh.sway import sway_curve
from mien.motion.controls import Controls
from mien.motion.finishing import finish
from mien.motion.speech_to_motion import SpeechToMotionConfig

FRAMES, SEED = 100, 3
PLAIN = SpeechToMotionConfig(appearance_dim=32, mesh=False)
GUIDED = replace(PLAIN, mesh=True)


def in_windows(motion: torch.Tensor) -> Iterator[torch.Tensor]:
    yield from motion.split((40, 25, 35), dim=1)


def finished(
    config: SpeechToMotionConfig, gate: torch.Tensor, controls: Controls | None = None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The motion before and after, and that at rest."""
    generator = torch.Generator().manual_seed(0)
    count = sum(config.motion_blocks)
    motion = torch.randn(1, FRAMES, count, generator=generator)
    at_rest = torch.randn(1, count, generator=generator)
    parts = finish(in_windows(motion), gate, at_rest, config, controls or Controls(), SEED)
    return motion, torch.cat(list(parts), dim=1), at_rest


def test_who_speaks_sways_and_blinks_and_keeps_the_rest():
    motion, after, _ = finished(GUIDED, torch.ones(FRAMES))
    assert after.shape[2] == motion.shape[2] + 1
    torch.testing.assert_close(after[..., : -POSE_DIM - 1], motion[..., :-POSE_DIM])
    sway = torch.from_numpy(sway_curve(FRAMES, SEED)).float()
    moved = after[0, :, -POSE_DIM - 1 : -1] - motion[0, :, -POSE_DIM:]
    torch.testing.assert_close(moved, sway, atol=1e-6, rtol=0)
    assert after[..., -1].max() == 1


def test_a_net_without_a_mesh_lets_no_head_sway():
    motion, after, _ = finished(PLAIN, torch.ones(FRAMES))
    torch.testing.assert_close(after[..., :-1], motion)


def test_who_is_silent_rests():
    gate = torch.ones(FRAMES)
    gate[30:60] = 0
    _, after, at_rest = finished(GUIDED, gate)
    assert torch.equal(after[0, 30:60, :-1], at_rest.expand(30, -1))
    assert not torch.equal(after[0, 60, :-1], at_rest[0])


@pytest.mark.parametrize("scale", [0.0, 0.5])
def test_the_scale_of_the_pose_holds_the_sway_too(scale: float):
    gate = torch.ones(FRAMES)
    _, whole, at_rest = finished(GUIDED, gate)
    _, less, _ = finished(GUIDED, gate, Controls(pose_scale=scale))
    away = (whole[..., :-1] - at_rest)[..., -MESH_DIM:]
    scaled = (less[..., :-1] - at_rest)[..., -MESH_DIM:]
    torch.testing.assert_close(scaled[..., :-POSE_DIM], away[..., :-POSE_DIM])
    torch.testing.assert_close(
        scaled[..., -POSE_DIM:], away[..., -POSE_DIM:] * scale, atol=1e-5, rtol=1e-4
    )
