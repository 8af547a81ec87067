"""Discrete schedules: whole timesteps with betas, as pretrained image diffusion nets use them.

Zero terminal SNR and trailing timesteps are those of arXiv 2305.08891: the last timestep must be
pure noise in training, as it is in sampling, and sampling must begin at it. This needs the velocity
form ("v-prediction"): at pure noise a prediction of the noise does not determine x0.
Axes: k timesteps of training, n steps of a sampler.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mien.diffusion.schedule import Levels, at_least_one

CLEAN = -1  # the timestep after the last step of a sampler, at which the net is not evaluated


def scaled_linear_betas(
    timesteps: int = 1000, first: float = 0.00085, last: float = 0.012
) -> Float[Tensor, " k"]:
    """Betas whose square roots are evenly spaced; the defaults are Stable Diffusion's. Float64."""
    return torch.linspace(first**0.5, last**0.5, timesteps, dtype=torch.float64).square()


def zero_terminal_snr(betas: Float[Tensor, " k"]) -> Float[Tensor, " k"]:
    """Betas rescaled so that the last timestep is pure noise and the first as noisy as before
    (arXiv 2305.08891, algorithm 1): alpha is shifted and scaled. Float64.
    """
    alpha = _alphas(betas)
    alpha = (alpha - alpha[-1]) * alpha[0] / (alpha[0] - alpha[-1])
    squared = alpha.square()
    return 1 - torch.cat((squared[:1], squared[1:] / squared[:-1]))


@dataclass(frozen=True)
class DiscreteSchedule:
    """Alpha at every timestep, from nearly clean (timestep 0) to noise; alpha² + sigma² = 1."""

    alphas: Float[Tensor, " k"]

    @classmethod
    def from_betas(cls, betas: Float[Tensor, " k"]) -> "DiscreteSchedule":
        """The schedule in which timestep i replaces a share betas[i] of the variance by noise."""
        return cls(_alphas(betas))

    def at(self, timestep: Int[Tensor, "*levels"], like: Tensor) -> Levels:
        """Alpha and sigma at each timestep, of the dtype and on the device of `like`; at CLEAN they
        are 1 and 0.
        """
        alpha = torch.cat((self.alphas, self.alphas.new_ones(1)))[timestep.cpu()]
        sigma = (1 - alpha.square()).sqrt()
        return Levels(timestep.to(like.device), alpha.to(like), sigma.to(like))

    def sampling_levels(self, steps: int, like: Tensor) -> Levels:
        """Timesteps of a sampler: `steps` evenly spaced ones from the last on ("trailing"), then
        CLEAN.

        Raises:
            ValueError: there is no step, or there are more than timesteps.
        """
        at_least_one(steps)
        count = len(self.alphas)
        if steps > count:
            raise ValueError(f"{steps} steps are more than the schedule's {count} timesteps")
        taken = torch.arange(steps, dtype=torch.float64) * (count / steps)
        timestep = (count - taken).round().long() - 1
        return self.at(torch.cat((timestep, torch.tensor([CLEAN]))), like)


def _alphas(betas: Float[Tensor, " k"]) -> Float[Tensor, " k"]:
    return (1 - betas.double()).cumprod(0).sqrt()
