"""Frames of any number by DDIM with guidance, in windows that overlap.

Every window after the first begins with the last frames of the one before, which the net sees clean
(timestep 0) while it denoises the others: it was trained with one noise level for each frame. So
frames are made as they are needed, and never all are in memory.
Axes: b batch, t frames, c channels of a sample, d channels of the condition, h w space.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from mien.diffusion.objective import to_clean
from mien.diffusion.samplers import Denoise, ddim, guided
from mien.loki.injection import ReferenceTokens
from mien.loki.net import Loki


@dataclass(frozen=True)
class LokiSamplingConfig:
    """How frames are sampled; the papers take 50 steps and a guidance of 2."""

    steps: int = 20
    guidance: float = 2.0  # of map and reference together; 1: none
    overlap: int = 1  # frames that a window shares with the one before
    common_noise: bool = True  # all frames begin with the same noise, which keeps them steady; ours

    def __post_init__(self) -> None:
        if self.steps < 1 or self.overlap < 0:
            raise ValueError(
                f"steps {self.steps} must be at least 1, overlap {self.overlap} at least 0"
            )


ConditionOf = Callable[[int, int], Tensor]  # first and last + 1 frame -> condition (b t d h w)


@torch.no_grad()
def sample_frames(
    net: Loki,
    reference: ReferenceTokens,
    count: int,
    condition_of: ConditionOf,
    sampling: LokiSamplingConfig,
    generator: Generator,
) -> Iterator[Float[Tensor, "b _ 3 h w"]]:
    """`count` frames, a window at a time. Same generator state, same bytes.

    Noise is drawn on the CPU, so that a seed means the same on every device.
    """
    overlap = min(sampling.overlap, net.config.window - 1)
    past: Tensor | None = None
    noise = _noise(net, reference, 1, generator) if sampling.common_noise else None
    start = 0
    while start < count:
        first = start if past is None else start - past.shape[1]
        last = min(first + net.config.window, count)
        condition = condition_of(first, last)
        frames = last - first
        start_from = _noise(net, reference, frames, generator) if noise is None else noise
        start_from = start_from.expand(-1, frames, -1, -1, -1).to(condition.device)
        samples = _window(net, reference, condition, past, start_from, sampling)
        yield net.decode(samples[:, start - first :])
        start, past = last, samples[:, last - first - overlap :] if overlap else None


def _window(
    net: Loki,
    reference: ReferenceTokens,
    condition: Float[Tensor, "b _ d _ _"],
    past: Float[Tensor, "b _ c _ _"] | None,
    noise: Float[Tensor, "b _ c _ _"],
    sampling: LokiSamplingConfig,
) -> Float[Tensor, "b _ c _ _"]:
    """One window; the frames of `past` stand at its beginning, as they are."""
    denoise = guided(
        denoiser(net, condition, reference, past),
        denoiser(net, None, None, past),
        sampling.guidance,
    )
    levels = net.schedule.sampling_levels(sampling.steps, noise)
    samples = ddim(denoise, noise, levels)
    if past is not None:
        samples[:, : past.shape[1]] = past
    return samples


def _noise(
    net: Loki, reference: ReferenceTokens, frames: int, generator: Generator
) -> Float[Tensor, "b _ c _ _"]:
    c = net.config
    size = len(reference[0]), frames, c.sample_channels, c.feature_size, c.feature_size
    return torch.randn(size, generator=generator)


def denoiser(
    net: Loki,
    condition: Float[Tensor, "b t d _ _"] | None,
    reference: ReferenceTokens | None,
    past: Float[Tensor, "b _ c h w"] | None = None,
) -> Denoise:
    """The net as samplers call it: it predicts clean samples. In place of the first frames it sees
    `past`, clean.
    """
    given = 0 if past is None else past.shape[1]

    def denoise(
        x: Float[Tensor, "b t c h w"], level: Int[Tensor, " b"]
    ) -> Float[Tensor, "b t c h w"]:
        timestep = level[:, None].repeat(1, x.shape[1])
        if past is not None:
            x = torch.cat((past, x[:, given:]), dim=1)
            timestep[:, :given] = 0
        prediction = net(x, timestep, condition, reference).to(x.dtype)
        clean = to_clean(prediction, x, net.schedule.at(timestep, x), net.config.form)
        limit = net.space.limit
        return clean if limit is None else clean.clamp(-limit, limit)

    return denoise
