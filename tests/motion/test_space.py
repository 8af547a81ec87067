import subprocess
import sys

import pytest
import torch

from mien.errors import UserError
from mien.motion.space import MotionSpace, MotionStatistics


def cloud(n=400, m=6):
    draw = torch.Generator().manual_seed(0)
    spread = torch.tensor([5.0, 2.0, 1.0, 0.5, 0.1, 0.02])[:m]
    turn = torch.linalg.qr(torch.randn(m, m, generator=draw)).Q
    return 3 + (torch.randn(n, m, generator=draw) * spread) @ turn


def fitted(dims=6):
    space = MotionSpace((6,), dims)
    space.fit(cloud(), torch.ones(3, 6))
    return space


def test_coordinates_of_the_training_motion_are_white():
    space = fitted(4)
    source = torch.zeros(1, 6)
    white = space.encode(cloud()[None], source)[0]
    torch.testing.assert_close(white.mean(0), torch.zeros(4), atol=1e-4, rtol=0)
    torch.testing.assert_close(torch.cov(white.T), torch.eye(4), atol=1e-3, rtol=0)


def test_round_trip_relative_to_the_source():
    space = fitted(6).double()
    source = torch.randn(2, 6, dtype=torch.float64)
    motion = torch.randn(2, 7, 6, dtype=torch.float64)
    # The basis was fitted in float64 and kept in float32, hence 1e-5.
    back = space.decode(space.encode(motion, source), source)
    torch.testing.assert_close(back, motion, atol=1e-5, rtol=1e-5)
    moved = space.encode(motion + 1, source + 1)
    torch.testing.assert_close(moved, space.encode(motion, source))


def test_fewer_dimensions_keep_the_largest_part_of_the_variance():
    few = MotionSpace((6,), 2)
    share = few.fit(cloud(), torch.ones(3, 6))
    variances = torch.linalg.eigvalsh(torch.cov(cloud().double().T))
    assert share == pytest.approx(float(variances[-2:].sum() / variances.sum()))
    assert few.scale[0] > few.scale[1]


def test_a_fit_has_no_accidental_signs():
    basis = fitted().basis
    assert (basis.gather(0, basis.abs().argmax(0, keepdim=True)) > 0).all()


def test_the_source_is_placed_relative_to_the_average_source():
    space = fitted()
    torch.testing.assert_close(space.place_source(torch.ones(2, 6)), torch.zeros(2, 6))


def test_importance_undoes_the_whitening_at_one_and_does_nothing_at_zero():
    space = fitted(4)
    torch.testing.assert_close(space.importance(0.0), torch.ones(4))
    gap = torch.randn(1, 5, 4)
    zero = torch.zeros(1, 6)
    plain = (space.decode(gap, zero) - space.decode(0 * gap, zero)).square().sum()
    weighed = (gap.square() * space.importance(1.0)).sum() * space.scale.square().mean()
    torch.testing.assert_close(weighed, plain)


def test_use_before_fit_is_refused_and_a_loaded_space_is_ready():
    empty = MotionSpace((6,), 4)
    with pytest.raises(UserError, match="no motion space yet"):
        empty.encode(torch.zeros(1, 2, 6), torch.zeros(1, 6))
    empty.load_state_dict(fitted(4).state_dict())
    motion, source = torch.randn(1, 2, 6), torch.randn(1, 6)
    torch.testing.assert_close(empty.encode(motion, source), fitted(4).encode(motion, source))


def test_too_little_motion_is_refused():
    with pytest.raises(UserError, match="more than 6 frames of training motion, not 5"):
        MotionSpace((6,), 6).fit(cloud(5), torch.ones(1, 6))
    with pytest.raises(UserError, match="never changes"):
        MotionSpace((6,), 6).fit(torch.ones(50, 6), torch.ones(1, 6))


def test_dust_is_not_magnified():
    flat = cloud()
    flat[:, 3:] = 0
    space = MotionSpace((6,), 6)
    space.fit(flat, torch.ones(1, 6))
    assert space.encode(flat[None], torch.zeros(1, 6)).abs().max() < 10


def test_blocks_of_motion_count_alike_whatever_their_units():
    generator = torch.Generator().manual_seed(3)
    loud = torch.randn(500, 3, generator=generator)
    faint = torch.randn(500, 4, generator=generator) * 1e-3
    differences = torch.cat((loud, faint), dim=1)
    space = MotionSpace((3, 4), 7)
    space.fit(differences, torch.zeros(1, 7))
    directions = space.basis.square()  # of unit vectors: shares of both blocks
    torch.testing.assert_close(directions.sum(dim=0), torch.ones(7))
    spread = space.scale.square()
    of_loud = (directions[:3].sum(dim=0) * spread).sum() / spread.sum()
    assert of_loud == pytest.approx(0.5, abs=0.02)
    source = torch.zeros(1, 7)
    back = space.decode(space.encode(differences[None], source), source)[0]
    torch.testing.assert_close(back, differences, atol=1e-5, rtol=1e-3)


def test_motion_that_comes_in_pieces_gives_the_same_space():
    """A mean far from zero, where sums of squares in float32 would lose the variance."""
    draw = torch.Generator().manual_seed(4)
    motion = 1000 + torch.randn(2000, 7, generator=draw) * torch.logspace(1, -2, 7)
    sources = torch.randn(40, 7, generator=draw)
    pieces = MotionStatistics(7)
    for some, source in zip(motion.split(50), sources, strict=True):
        pieces.add(some, source[None])
    exact = motion.double()
    torch.testing.assert_close(pieces.mean, exact.mean(0), rtol=1e-9, atol=0)
    torch.testing.assert_close(pieces.covariance, torch.cov(exact.T), rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(pieces.source, sources.double().mean(0), rtol=1e-9, atol=1e-12)

    streamed, whole = MotionSpace((3, 4), 5), MotionSpace((3, 4), 5)
    assert streamed.fit_to(pieces) == pytest.approx(whole.fit(motion, sources), rel=1e-6)
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(streamed.state_dict()[name], value, rtol=1e-6, atol=1e-7)


GROWTH = """
import resource, torch
from mien.motion.space import MotionSpace, MotionStatistics
torch.set_num_threads(1)
statistics = MotionStatistics(900)
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
clip = torch.randn(300, 900)
statistics.add(clip, clip[:1])
before = peak()
for _ in range(60):
    statistics.add(torch.randn(300, 900), clip[:1])
MotionSpace((768, 132), 64).fit_to(statistics)
print(peak() - before)
"""


def test_memory_does_not_grow_with_the_examples():
    """60 clips of 12 s are 65 MB and as doubles 130; the statistics and the fit take less."""
    done = subprocess.run(
        [sys.executable, "-c", GROWTH], capture_output=True, text=True, check=True, timeout=120
    )
    assert int(done.stdout) < 64 * 1024
