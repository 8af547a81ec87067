"""Heads sway slowly, about the pose that stage 2 gives them, by seed."""

import numpy as np
import pytest

from mien.mesh.motion import POSE_DIM
from mien.mesh.sway import sway_curve

MINUTES = 20 * 60 * 25


@pytest.mark.parametrize("seed", range(3))
def test_heads_turn_and_lean_and_do_not_drift(seed: int):
    curve = sway_curve(MINUTES, seed)
    assert curve.shape == (MINUTES, POSE_DIM)
    nod, aside, lean = np.degrees(curve[:, :3].std(axis=0))
    assert nod == 0 and aside == pytest.approx(1.4, rel=0.1) and lean == pytest.approx(1.8, rel=0.1)
    assert curve[:, 3].std() == pytest.approx(0.04, rel=0.1) and not curve[:, 4:].any()
    first, last = np.split(curve, 2)
    assert np.abs(np.degrees(first.mean(axis=0) - last.mean(axis=0))[:3]).max() < 0.5


def test_no_step_is_quick():
    steps = np.degrees(np.abs(np.diff(sway_curve(MINUTES, 0), axis=0))[:, :3])
    assert steps.max() < 0.8  # degrees a frame


def test_the_same_seed_sways_alike_and_a_longer_talk_begins_like_a_shorter_one():
    assert np.array_equal(sway_curve(300, 3), sway_curve(300, 3))
    assert np.allclose(sway_curve(900, 3)[:300], sway_curve(300, 3))
    assert not np.array_equal(sway_curve(300, 3), sway_curve(300, 4))
