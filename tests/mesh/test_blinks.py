"""Blinks come as often as people blink, by seed, and shut both eyes."""

import numpy as np
import pytest

from mien.mesh.blinks import blink_curve
from mien.mesh.retarget import PortraitMesh
from mien.mesh.topology import LIDS
from tests.mesh.faces import in_picture, person


@pytest.mark.parametrize("seed", range(8))
def test_eight_to_twenty_five_a_minute(seed: int):
    curve = blink_curve(10 * 60 * 25, seed)
    begins = ((curve[1:] > 0) & (curve[:-1] == 0)).sum()
    assert 8 <= begins / 10 <= 25
    assert not curve[:25].any() and curve.max() == 1 and curve.min() == 0


def test_as_often_as_is_asked_for_or_never():
    assert not blink_curve(5000, 0, 0.0).any()
    for rate in (5.0, 30.0):
        curve = blink_curve(20 * 60 * 25, 0, rate)
        assert ((curve[1:] > 0) & (curve[:-1] == 0)).sum() / 20 == pytest.approx(rate, rel=0.15)


def test_the_same_seed_blinks_alike_and_a_longer_talk_goes_on():
    assert np.array_equal(blink_curve(500, 3), blink_curve(500, 3))
    assert np.array_equal(blink_curve(900, 3)[:500], blink_curve(500, 3))
    assert not np.array_equal(blink_curve(500, 3), blink_curve(500, 4))


def test_lids_meet_and_nothing_else_moves():
    portrait = PortraitMesh.of(in_picture(person(0)))
    still = np.zeros((468, 3))
    opened, half, shut = (portrait.target(still, blink) for blink in (0.0, 0.5, 1.0))
    for upper, lower in LIDS:
        gaps = [np.abs((f[list(lower)] - f[list(upper)])[:, 1]).max() for f in (opened, half, shut)]
        assert gaps[2] < 0.05 * gaps[0] and gaps[1] == pytest.approx(gaps[0] / 2, rel=0.01)
    lids = [point for pair in LIDS for lid in pair for point in lid]
    moved = np.abs(shut - opened).max(axis=1)
    moved[lids] = 0
    assert not moved.any()
