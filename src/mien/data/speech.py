"""Datasets of stage 2: windows of motion with the audio features of their whole clip.

Axes: b batch, l audio steps, f feature dimensions, s samples, t video frames, m motion.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from mien.audio.features import SILENCE
from mien.audio.pretrained import FrontEndConfig
from mien.data.datasets import People, draw, sample_generator
from mien.data.features import FeatureCache
from mien.data.latents import ClipLatents, read
from mien.data.manifest import ClipRecord
from mien.data.store import Store
from mien.types import SpeechClip


@dataclass(frozen=True)
class VoiceConfig:
    """Audio augmentation: noise and VTLP (vocal tract length perturbation); 0 turns each off.

    Both apply to log-mel only: a pretrained front end has learnt many voices, and encodes perturbed
    ones worse. Loudness is varied by the objective. None of these shifts the audio in time.
    """

    noise: float = 0.5  # chance that a recording gets noise
    noise_db: tuple[float, float] = (10.0, 40.0)  # range of the signal-to-noise ratio
    vtlp: float = 0.12  # deviation of the log of the frequency scale


@dataclass(frozen=True)
class WindowSpec:
    """The layout of a sample: `frames` of motion, with `mesh` also of the face mesh, and the
    `history` frames before them.
    """

    frames: int
    history: int
    front_end: FrontEndConfig
    mesh: bool = False


class SpeechClips(Dataset[SpeechClip]):
    """Unlimited samples: `index` is a person, one of their clips, a window and a portrait."""

    def __init__(
        self,
        records: Sequence[ClipRecord],
        folder: Path | Store,
        window: WindowSpec,
        voice: VoiceConfig,
        balance: float,
        seed: int,
    ) -> None:
        self.people = People(records, balance)
        self.folder, self.window, self.voice, self.seed = folder, window, voice, seed
        self.features_of = FeatureCache(window.front_end, folder)

    def __getitem__(self, index: int) -> SpeechClip:
        generator = sample_generator(self.seed, index)
        latents = read(self.folder, self.people.draw_clip(generator))
        start = draw(len(latents.motion) - self.window.frames + 1, generator)
        portrait = draw(len(latents.appearance), generator)

        if self.window.front_end.bundle is None:
            sound = add_noise(latents.sound, self.voice, generator)
            features = vtlp(self.features_of(sound), self.voice, generator)
        else:
            features = self.features_of(latents.sound)
        return cut(latents, features, start, portrait, self.window)


class FixedWindows(Dataset[SpeechClip]):
    """Validation: the first window of every clip, then the last, from its first resting frame."""

    def __init__(
        self, records: Sequence[ClipRecord], folder: Path | Store, window: WindowSpec
    ) -> None:
        self.records, self.folder, self.window = records, folder, window
        self.features_of = FeatureCache(window.front_end, folder)

    def __len__(self) -> int:
        return 2 * len(self.records)

    def __getitem__(self, index: int) -> SpeechClip:
        latents = read(self.folder, self.records[index % len(self.records)])
        start = index // len(self.records) * (len(latents.motion) - self.window.frames)
        return cut(latents, self.features_of(latents.sound), start, 0, self.window)


def cut(
    latents: ClipLatents,
    features: Float[Tensor, "1 l f"],
    start: int,
    portrait: int,
    window: WindowSpec,
) -> SpeechClip:
    """One window; its history is unknown where the clip does not reach back far enough."""
    latents = latents.with_mesh() if window.mesh else latents
    known = start >= window.history
    before = latents.motion[start - window.history : start] if known else None
    nothing = latents.motion.new_zeros(window.history, latents.motion.shape[1])
    return SpeechClip(
        features=features,
        feature_lengths=torch.tensor([features.shape[1]]),
        start=torch.tensor([start]),
        motion=latents.motion[None, start : start + window.frames],
        history=(nothing if before is None else before)[None],
        history_known=torch.tensor([known]),
        appearance=latents.appearance[[portrait]],
        source_motion=latents.source_motion[[portrait]],
    )


def collate_speech(clips: Sequence[SpeechClip]) -> SpeechClip:
    """Join samples along the batch axis; features are padded with silence to the longest."""
    longest = max(clip.features.shape[1] for clip in clips)
    joined = {
        f.name: torch.cat([getattr(clip, f.name) for clip in clips])
        for f in fields(SpeechClip)
        if f.name != "features"
    }
    padded = [
        F.pad(clip.features, (0, 0, 0, longest - clip.features.shape[1]), value=SILENCE)
        for clip in clips
    ]
    return SpeechClip(features=torch.cat(padded), **joined)


def add_noise(
    sound: Float[Tensor, " s"], config: VoiceConfig, generator: torch.Generator
) -> Float[Tensor, " s"]:
    """Add white noise with a random signal-to-noise ratio, with probability `config.noise`."""
    chance, place = torch.rand(2, generator=generator).tolist()
    noise = torch.randn(sound.shape, generator=generator)
    least, most = config.noise_db
    below = 10 ** (-(least + (most - least) * place) / 20)
    loudness = sound.square().mean().sqrt()
    return sound + noise * loudness * below if chance < config.noise else sound


def vtlp(
    features: Float[Tensor, "b l f"], config: VoiceConfig, generator: torch.Generator
) -> Float[Tensor, "b l f"]:
    """Vocal tract length perturbation (Jaitly and Hinton 2013): the spectrum stretched along
    frequency. A stretch of the mel axis is close to a factor on the formants.
    """
    factor = float(torch.exp(config.vtlp * torch.randn((), generator=generator)))
    bins = features.shape[-1]
    place = (torch.arange(bins) * factor).clamp(max=bins - 1)
    low = place.long().clamp(max=bins - 2)
    share = place - low
    return features[..., low] * (1 - share) + features[..., low + 1] * share
