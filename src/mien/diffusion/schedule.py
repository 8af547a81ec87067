"""Noise levels: a continuous t in [0, 1], from clean to pure noise, and what it means.

A noised thing is alpha * clean + sigma * noise. Axes: n levels, b batch.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

Schedule = Literal["cosine", "flow"]
"""`cosine` keeps the variance (alpha² + sigma² = 1); `flow` is straight (alpha + sigma = 1)."""


@dataclass(frozen=True)
class Levels:
    """Noise levels with their alpha and sigma, and the slopes of both over the level."""

    level: Float[Tensor, " n"]
    alpha: Float[Tensor, " n"]
    sigma: Float[Tensor, " n"]
    alpha_slope: Float[Tensor, " n"]
    sigma_slope: Float[Tensor, " n"]


def at_levels(schedule: Schedule, level: Float[Tensor, " n"]) -> Levels:
    """Alpha and sigma at each level."""
    if schedule == "flow":
        one = torch.ones_like(level)
        return Levels(level, 1 - level, level, -one, one)
    quarter = math.pi / 2
    alpha, sigma = torch.cos(quarter * level), torch.sin(quarter * level)
    return Levels(level, alpha, sigma, -quarter * sigma, quarter * alpha)


def descent(schedule: Schedule, steps: int, like: Tensor) -> Levels:
    """The way down for a sampler: `steps` even steps from pure noise to clean, steps + 1 levels."""
    if steps < 1:
        raise ValueError(f"sampling needs at least one step, not {steps}")
    return at_levels(
        schedule, torch.linspace(1, 0, steps + 1, dtype=like.dtype, device=like.device)
    )
