"""Expression and pose are scaled apart, from rest."""

import pytest
import torch

from mien.errors import UserError
from mien.motion.controls import Controls

BLOCKS = (3, 4, 2)  # implicit motion, expression, pose


def applied(controls: Controls, blocks=BLOCKS) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    numbers = sum(blocks)
    rest, motion = torch.randn(1, numbers), torch.randn(1, 5, numbers)
    (scaled,) = controls.apply(iter([motion]), rest, blocks)
    return rest[:, None], motion, scaled


def test_as_generated_nothing_changes():
    _, motion, scaled = applied(Controls())
    torch.testing.assert_close(scaled, motion)


def test_expression_and_pose_apart():
    rest, motion, scaled = applied(Controls(expression_scale=2.0, pose_scale=0.0))
    moved, wanted = motion - rest, scaled - rest
    assert not wanted[..., :3].any() and not wanted[..., 7:].any()
    torch.testing.assert_close(wanted[..., 3:7], 2 * moved[..., 3:7])


def test_without_a_mesh_only_both_together():
    rest, motion, scaled = applied(Controls(expression_scale=0.5, pose_scale=0.5), (9,))
    torch.testing.assert_close(scaled - rest, (motion - rest) / 2)
    with pytest.raises(UserError, match="give both scales the same value"):
        applied(Controls(pose_scale=0.0), (9,))


@pytest.mark.parametrize("name", ["expression_scale", "pose_scale", "blink"])
@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_what_is_no_scale_is_refused(name: str, value: float):
    with pytest.raises(UserError, match=f"{name} .* must be 0 or above"):
        Controls(**{name: value})
