"""Synthetic talking faces: drawn clips to train on when there is no footage.

The mouth opens with the loudness of a synthetic voice, the head sways, the eyes blink; identity is
in colours, proportions and the pitch of the voice. Everything is determined by the seed.
Axes: t video frames, h w space, s audio samples.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy.random import Generator

from mien.audio.features import FPS, SAMPLE_RATE
from mien.data.manifest import ClipRecord, write_manifest
from mien.errors import UserError
from mien.media import VideoWriter

SYLLABLES_PER_SECOND = 4.0
MOUTH_BOX = (
    0.33,
    0.57,
    0.67,
    0.83,
)  # left, top, right, bottom: holds the mouth however the head sways

Array = np.ndarray


@dataclass(frozen=True)
class DrawnPerson:
    """Colours in [0, 1], proportions in shares of the picture, and the pitch of the voice in Hz."""

    background: Float[Array, "3"]
    skin: Float[Array, "3"]
    hair: Float[Array, "3"]
    eyes: Float[Array, "3"]
    head_width: float
    head_height: float
    eye_distance: float
    mouth_width: float
    pitch: float


@dataclass(frozen=True)
class DrawnClip:
    """A clip, and how far its mouth is open in each frame (0 to 1)."""

    frames: UInt8[Array, "t h w 3"]
    sound: Float[Array, " s"]
    opening: Float[Array, " t"]
    mouth: tuple[float, float, float, float]


def draw_person(random: Generator) -> DrawnPerson:
    """A random person."""
    skin = np.array([0.85, 0.65, 0.5]) * random.uniform(0.45, 1.1)
    return DrawnPerson(
        background=random.uniform(0.1, 0.9, 3),
        skin=skin.clip(0, 1),
        hair=random.uniform(0.0, 0.6, 3),
        eyes=random.uniform(0.1, 0.6, 3),
        head_width=random.uniform(0.24, 0.30),
        head_height=random.uniform(0.31, 0.37),
        eye_distance=random.uniform(0.10, 0.13),
        mouth_width=random.uniform(0.08, 0.12),
        pitch=random.uniform(90, 250),
    )


def draw_clip(person: DrawnPerson, size: int, frames: int, random: Generator) -> DrawnClip:
    """A clip of `frames` frames in which the person speaks random syllables."""
    samples = frames * SAMPLE_RATE // FPS
    loudness = syllables(samples, random)
    sound = 0.3 * loudness * voice(person.pitch, samples, random)
    opening = loudness.reshape(frames, -1).mean(axis=1)

    sway = np.stack([smooth(frames, random) for _ in range(3)], axis=1) * (0.04, 0.025, 0.12)
    blinks = random.random(frames) < 0.03
    blinks[1:] |= blinks[:-1]
    pictures = [picture(person, size, opening[t], sway[t], bool(blinks[t])) for t in range(frames)]
    return DrawnClip(np.stack(pictures), sound, opening, MOUTH_BOX)


def syllables(samples: int, random: Generator) -> Float[Array, " s"]:
    """Loudness over time in [0, 1]: one bump per syllable, with occasional pauses."""
    count = int(np.ceil(samples / SAMPLE_RATE * SYLLABLES_PER_SECOND))
    heights = random.uniform(0.4, 1.0, count) * (random.random(count) > 0.2)
    place = np.arange(samples) / SAMPLE_RATE * SYLLABLES_PER_SECOND
    return heights[place.astype(int)] * np.sin(np.pi * (place % 1)) ** 2


def voice(pitch: float, samples: int, random: Generator) -> Float[Array, " s"]:
    """A harmonic tone with a varying pitch."""
    wavering = pitch * (1 + 0.05 * smooth(samples // 160 + 1, random).repeat(160)[:samples])
    phase = 2 * np.pi * np.cumsum(wavering) / SAMPLE_RATE
    return sum(np.sin(k * phase) / k for k in range(1, 9)) / 2  # pyright: ignore[reportReturnType]


def smooth(count: int, random: Generator) -> Float[Array, " n"]:
    """Slow random movement of about unit size."""
    time = np.arange(count) / FPS
    rates, phases = random.uniform(0.2, 0.9, 3), random.uniform(0, 2 * np.pi, 3)
    return np.sin(2 * np.pi * rates[:, None] * time + phases[:, None]).mean(axis=0)


def picture(
    person: DrawnPerson, size: int, opening: float, sway: Float[Array, "3"], blink: bool
) -> UInt8[Array, "h w 3"]:
    """One frame; `sway` is right, down (in pictures) and the roll of the head (radians)."""
    across, down, roll = sway
    y, x = (np.mgrid[0:size, 0:size] + 0.5) / size
    x, y = x - 0.5 - across, y - 0.5 - down
    x, y = x * np.cos(roll) + y * np.sin(roll), y * np.cos(roll) - x * np.sin(roll)
    canvas = np.broadcast_to(person.background, (size, size, 3))

    def ellipse(cx: float, cy: float, rx: float, ry: float, colour: Array) -> None:
        nonlocal canvas
        distance = (np.hypot((x - cx) / rx, (y - cy) / ry) - 1) * min(rx, ry) * size
        cover = np.clip(0.5 - distance, 0, 1)[..., None]
        canvas = canvas + cover * (colour - canvas)

    width, height = person.head_width, person.head_height
    ellipse(0.0, -0.06, width * 1.12, height * 1.08, person.hair)
    ellipse(0.0, 0.02, width, height, person.skin)
    for side in (-1, 1):
        eye = side * person.eye_distance
        ellipse(eye, -0.05, 0.045, 0.006 if blink else 0.026, np.ones(3))
        if not blink:
            ellipse(eye + 0.3 * across, -0.05, 0.018, 0.018, person.eyes)
        ellipse(eye, -0.12, 0.05, 0.009, person.hair)
    ellipse(0.0, 0.06, 0.02, 0.03, person.skin * 0.85)
    ellipse(0.0, 0.19, person.mouth_width, 0.014 + 0.06 * opening, np.array([0.65, 0.25, 0.25]))
    ellipse(
        0.0, 0.19, person.mouth_width * 0.8, 0.003 + 0.05 * opening, np.array([0.15, 0.03, 0.05])
    )
    return (canvas * 255).round().astype(np.uint8)


def write_clips(
    folder: Path, name: str, people: int, clips: int, frames: int, size: int, seed: int
) -> None:
    """Draw people and their clips into `folder/name/`, and the manifest `folder/name.jsonl`.

    Raises:
        UserError: the folder cannot be written to.
    """
    random = np.random.default_rng(seed)
    records: list[ClipRecord] = []
    try:
        (folder / name).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{folder} cannot be written to ({error.strerror}): take another"
        ) from error
    for identity in (f"{name}-{number}" for number in range(people)):
        person = draw_person(random)
        for number in range(clips):
            clip = draw_clip(person, size, frames, random)
            path = f"{name}/{identity}-{number}.mp4"
            with VideoWriter(folder / path, torch.from_numpy(clip.sound).float()) as writer:
                writer.write(clip.frames)
            seconds = frames / FPS
            records.append(ClipRecord(path, identity, "drawn", seconds, frames, clip.mouth))
    write_manifest(folder / f"{name}.jsonl", records)
