"""What must stay in float32 does, under autocast to bfloat16."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from mien.diffusion.objective import LossWeights, objective, to_clean
from mien.diffusion.schedule import at_levels
from mien.motion.objective import direct_loss
from mien.motion.space import MotionSpace
from mien.ops.precision import full_precision, widened
from mien.ops.warp import resize_displacement, sample_map, warp_map, warp_volume
from mien.portrait.motion_encoder import AttentionPooling, token_positions
from mien.portrait.region_attention import mean_flow
from mien.training.losses import LossConfig, pixel_loss, threshold_mask_loss, token_position_loss
from mien.types import FramePair


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def space() -> MotionSpace:
    made = MotionSpace((20,), 6)
    made.fit(normal(200, 20) * torch.logspace(0, -1, 20), normal(4, 20))
    return made


def smooth_motion() -> Tensor:
    return torch.sin(torch.linspace(0, 3, 40)[None, :, None] + torch.arange(20.0))


def the_objective() -> Tensor:
    clean, noise = normal(3, 20, 6), normal(3, 20, 6, seed=1)
    levels = at_levels("cosine", torch.tensor([0.1, 0.5, 0.9]))
    answer = clean + 0.01 * normal(3, 20, 6, seed=2)
    weights, importance = LossWeights(), torch.ones(6)
    return objective(answer, noise, clean, noise, levels, "x0", weights, importance)[0]


def a_pair(size: int) -> FramePair:
    pictures = normal(4, 1, 3, size, size).unbind()
    mouth, pixel_weight = normal(1, 1, size, size).sigmoid(), torch.ones(1, 1, size, size)
    move, confidence = 0.05 * normal(1, size, size, 2), normal(1, size, size, 1).sigmoid()
    views = pictures[2], pictures[3][:, None]
    return FramePair(*pictures[:2], *views, mouth, move, confidence, pixel_weight)


def the_pixel_loss() -> Tensor:
    drawn, driving = normal(2, 2, 3, 32, 32)
    mouth, pixel_weight = normal(2, 2, 1, 32, 32).sigmoid()
    return pixel_loss(drawn, driving, mouth, pixel_weight, LossConfig())["pixel"]


WIDE: dict[str, Callable[[], Tensor]] = {
    "warp_map": lambda: warp_map(normal(2, 3, 64, 64), 0.05 * normal(2, 64, 64, 2)),
    "warp_volume": lambda: warp_volume(normal(1, 3, 2, 32, 32), 0.05 * normal(1, 2, 32, 32, 2)),
    "sample_map": lambda: sample_map(normal(2, 3, 64, 64), normal(2, 8, 8, 2).tanh()),
    "resize_displacement": lambda: resize_displacement(normal(1, 16, 16, 2), 64, 64),
    "mean_flow": lambda: mean_flow(normal(2, 4, 16, 16, 2), normal(2, 4, 16, 16).sigmoid()),
    "encode": lambda: space().encode(smooth_motion(), normal(1, 20)),
    "accelerations": lambda: space().encode(smooth_motion(), normal(1, 20)).diff(n=2, dim=1),
    "decode": lambda: space().decode(normal(1, 40, 6), normal(1, 20)),
    "place_source": lambda: space().place_source(normal(3, 20)),
    "token_places": lambda: token_positions(normal(2, 12, 8, 8)),
    "pixel": the_pixel_loss,
    "places": lambda: token_position_loss(*normal(2, 1, 8, 8, 2).tanh(), a_pair(32), 3.0),
    "threshold": lambda: threshold_mask_loss(*normal(2, 1, 4, 2, 8, 8), 0.1),
    "objective": the_objective,
    "direct": lambda: direct_loss(normal(2, 9, 6), normal(2, 9, 6, seed=1)),
}  # fmt: skip


@pytest.mark.parametrize("name", WIDE)
def test_the_same_numbers_under_autocast(name: str):
    torch.manual_seed(0)
    plain = WIDE[name]()
    torch.manual_seed(0)
    with torch.autocast("cpu", torch.bfloat16):
        under = WIDE[name]()
    assert under.dtype == torch.float32
    assert torch.equal(plain, under)


def test_narrow_answers_are_widened_before_they_are_compared():
    levels = at_levels("cosine", torch.tensor([0.5]))
    narrow = normal(1, 4, 6).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        assert to_clean(narrow, narrow, levels, "x0").dtype == torch.float32


def test_tokens_find_their_places_as_exactly_as_the_map_allows():
    torch.manual_seed(0)
    pool = AttentionPooling(6, 8, 12)
    seen = normal(2, 6, 32, 32)
    plain = token_positions(pool(seen))
    with torch.autocast("cpu", torch.bfloat16):
        under = token_positions(pool(seen))
    assert under.dtype == torch.float32
    # The scores that lead there are bfloat16; a pixel of 256 is 0.0078.
    assert (plain - under).abs().max() < 0.004


def test_only_what_is_narrow_is_changed():
    @dataclass(frozen=True)
    class Pair:
        a: Tensor
        b: tuple[Tensor, ...]
        name: str

    wide = Pair(normal(2), (normal(2),), "x")
    assert widened(wide) is wide
    narrow = Pair(normal(2).bfloat16(), (normal(2), normal(2).half()), "x")
    changed = widened({"pair": [narrow]})["pair"][0]
    assert changed.a.dtype == changed.b[1].dtype == torch.float32 and changed.b[0] is narrow.b[0]
    assert widened(torch.arange(3)).dtype == torch.int64


def test_inside_there_is_no_autocast_and_gradients_come_back_narrow():
    @full_precision
    def product(a: Tensor, *, b: Tensor) -> Tensor:
        assert not torch.is_autocast_enabled("cpu")
        return a @ b

    a = normal(4, 4).bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        made = product(a, b=normal(4, 4))
        assert torch.is_autocast_enabled("cpu")
    assert made.dtype == torch.float32
    made.sum().backward()
    assert a.grad is not None and a.grad.dtype == torch.bfloat16
