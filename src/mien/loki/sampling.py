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
from mien.loki.injection import ReferenceKeys
from mien.loki.net import Loki


@dataclass(frozen=True)
class LokiSamplingConfig:
    """How frames are sampled; the authors take 50 steps and a guidance of 2.

    In pixels at 64 px, frames of 10 steps look like those of 20, from which they differ by
    45 dB.
    """

    steps: int = 10
    guidance: float = 2.0  # of map and reference together; 1: none
    overlap: int = 1  # frames that a window shares with the one before
    common_noise: bool = True  # all frames begin with the same noise, which keeps them steady; ours
    # Standard deviation of the initial noise; in training it is 1. Ours: below 1 frames depend less
    # on the seed and follow map and reference better; 0: no noise, so that no seed matters.
    temperature: float = 0.3

    def __post_init__(self) -> None:
        if self.steps < 1 or self.overlap < 0:
            raise ValueError(
                f"steps {self.steps} must be at least 1, overlap {self.overlap} at least 0"
            )
        if not 0 <= self.temperature < float("inf"):
            raise ValueError(f"temperature {self.temperature} must be finite and at least 0")

    def __str__(self) -> str:
        return f"{self.steps} steps, guidance {self.guidance:g}, temperature {self.temperature:g}"


ConditionOf = Callable[[int, int], Tensor]  # first and last + 1 frame -> condition (b t d h w)


@torch.no_grad()
def sample_frames(
    net: Loki,
    reference: ReferenceKeys,
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
    batch = len(reference[0][0])

    def noise_of(frames: int) -> Float[Tensor, "b _ c _ _"]:
        return sampling.temperature * _noise(net, batch, frames, generator)

    common = noise_of(1) if sampling.common_noise else None
    start = 0
    while start < count:
        first = start if past is None else start - past.shape[1]
        last = min(first + net.config.window, count)
        condition = condition_of(first, last)
        frames = last - first
        noise = noise_of(frames) if common is None else common
        noise = noise.expand(-1, frames, -1, -1, -1).to(condition.device)
        samples = _window(net, reference, condition, past, noise, sampling)
        yield net.decode(samples[:, start - first :])
        start, past = last, samples[:, last - first - overlap :] if overlap else None


def _window(
    net: Loki,
    reference: ReferenceKeys,
    condition: Float[Tensor, "b _ d _ _"],
    past: Float[Tensor, "b _ c _ _"] | None,
    noise: Float[Tensor, "b _ c _ _"],
    sampling: LokiSamplingConfig,
) -> Float[Tensor, "b _ c _ _"]:
    """One window; the frames of `past` stand at its beginning, as they are."""
    denoise = denoiser(net, condition, reference, past, sampling.guidance)
    levels = net.schedule.sampling_levels(sampling.steps, noise)
    samples = ddim(denoise, noise, levels)
    if past is not None:
        samples[:, : past.shape[1]] = past
    return samples


def _noise(net: Loki, batch: int, frames: int, generator: Generator) -> Float[Tensor, "b _ c _ _"]:
    c = net.config
    size = batch, frames, c.sample_channels, c.feature_size, c.feature_size
    return torch.randn(size, generator=generator)


def denoiser(
    net: Loki,
    condition: Float[Tensor, "b t d _ _"],
    reference: ReferenceKeys,
    past: Float[Tensor, "b _ c h w"] | None = None,
    guidance: float = 1.0,
) -> Denoise:
    """The net as samplers call it: it predicts clean samples. In place of the first frames it sees
    `past`, clean.

    Guidance takes the prediction without map and reference from the same pass, as further samples
    of the batch. It may lead beyond what a picture can be, so that the guided sample is clamped.
    """
    given = 0 if past is None else past.shape[1]
    limit, form = net.space.limit, net.config.form
    if guidance != 1:
        condition = torch.cat((condition, torch.zeros_like(condition)))

    def predict(
        x: Float[Tensor, "n t c h w"], level: Int[Tensor, " n"]
    ) -> Float[Tensor, "n t c h w"]:
        timestep = level[:, None].repeat(1, x.shape[1])
        if past is not None:
            known = past.repeat(len(x) // len(past), 1, 1, 1, 1)
            x = torch.cat((known, x[:, given:]), dim=1)
            timestep[:, :given] = 0
        prediction = net(x, timestep, condition, reference).to(x.dtype)
        return to_clean(prediction, x, net.schedule.at(timestep, x), form)

    predict_guided = predict if guidance == 1 else guided(predict, guidance)

    def denoise(
        x: Float[Tensor, "b t c h w"], level: Int[Tensor, " b"]
    ) -> Float[Tensor, "b t c h w"]:
        clean = predict_guided(x, level)
        return clean if limit is None else clean.clamp(-limit, limit)

    return denoise
