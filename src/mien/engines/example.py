"""Inputs of rendering, to export graphs with and to compare engines on.

Axes: b batch (1), t video frames, m implicit motion.
"""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from mien.devices import worker_threads
from mien.engines.choice import Engine
from mien.mesh.guide import join_guides, no_guide, to_device
from mien.portrait.animator import Animator
from mien.types import Guide, PreparedSource

Inputs = tuple[PreparedSource, Float[Tensor, "1 t m"], Guide | None]


def example(animator: Animator, frames: int, guided: bool = True) -> Inputs:
    """A smooth random picture, frames of motion near its own and, where asked for and where the
    animator takes them, guides without a face. Always the same.
    """
    generator, side = torch.Generator().manual_seed(0), animator.config.image_size
    device = next(animator.parameters()).device
    coarse = torch.rand(1, 3, 9, 9, generator=generator) * 2 - 1
    picture = F.interpolate(coarse, (side, side), mode="bilinear").to(device)
    own = animator.encode_motion(picture)
    source = animator.prepare_source(animator.encode_appearance(picture), own)
    noise = torch.randn(1, frames, own.shape[1], generator=generator).to(device)
    guide = join_guides([no_guide(side)] * frames) if guided and animator.config.guide else None
    return source, own[:, None] + noise / 5, guide and to_device(guide, device)


def decibels(frames: Tensor, expected: Tensor) -> float:
    """How near frames are to the expected ones, all pooled: 200 for equal ones."""
    error = ((frames.float() - expected) / 2).square().mean().item()
    return -10 * math.log10(max(error, 1e-20))


def render_at_once(
    engine: Engine, inputs: Inputs, context: Callable[[], AbstractContextManager] = nullcontext
) -> None:
    """Render the frames once in each of the threads that the engine is fastest with, each inside a
    `context`, which torch keeps for each thread.
    """

    def render(_: int) -> None:
        with torch.inference_mode(), context():
            engine.render(*inputs)

    count = engine.chunks_at_once
    if count == 1:
        render(0)
        return
    pool = worker_threads(count)
    list(pool.map(render, range(count)))
