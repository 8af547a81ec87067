"""Noise schedules: a noise level is a continuous timestep t in [0, 1], from clean to pure noise.

A noised sample is alpha * clean + sigma * noise; `discrete.py` has schedules of whole timesteps.
Axes: n steps of a sampler, b batch, t frames.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

Schedule = Literal["cosine", "flow"]
"""`cosine` keeps the variance (alpha² + sigma² = 1); `flow` is straight (alpha + sigma = 1)."""


@dataclass(frozen=True)
class Levels:
    """Noise levels with their alpha and sigma and, of continuous ones, the slopes of both.

    In training there is one per sample (b) or per frame (b t). A sampler has one per step (n), the
    same for all, or (n b), or (n b t). `level` is t, or a whole timestep.
    """

    level: Shaped[Tensor, "*levels"]
    alpha: Float[Tensor, "*levels"]
    sigma: Float[Tensor, "*levels"]
    alpha_slope: Float[Tensor, "*levels"] | None = None
    sigma_slope: Float[Tensor, "*levels"] | None = None


def at_levels(schedule: Schedule, level: Float[Tensor, "*levels"]) -> Levels:
    """Alpha and sigma at each level."""
    if schedule == "flow":
        one = torch.ones_like(level)
        return Levels(level, 1 - level, level, -one, one)
    quarter = math.pi / 2
    alpha, sigma = torch.cos(quarter * level), torch.sin(quarter * level)
    return Levels(level, alpha, sigma, -quarter * sigma, quarter * alpha)


def sampling_levels(schedule: Schedule, steps: int, like: Tensor) -> Levels:
    """Noise levels of a sampler: `steps` even steps from pure noise to clean, steps + 1 levels.

    Raises:
        ValueError: there is no step.
    """
    at_least_one(steps)
    return at_levels(
        schedule, torch.linspace(1, 0, steps + 1, dtype=like.dtype, device=like.device)
    )


def at_least_one(steps: int) -> None:
    """Refuse a sampler without steps.

    Raises:
        ValueError: there is no step.
    """
    if steps < 1:
        raise ValueError(f"sampling needs at least one step, not {steps}")


def expand_to(values: Float[Tensor, "*levels"], like: Tensor) -> Tensor:
    """Append axes of size 1 to values per sample (b) or per frame (b t), so that they broadcast
    over `like`; a scalar is returned unchanged.
    """
    if values.ndim == 0:
        return values
    return values.reshape(*values.shape, *[1] * (like.ndim - values.ndim))
