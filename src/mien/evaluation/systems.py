"""The systems that `mien evaluate follow` compares: each draws a portrait as a driver moves.

Axes: t video frames, h w space.
"""

from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch

from mien.checkpoint import default_weights, load_animator
from mien.data.datasets import to_picture
from mien.data.faces import face_model, face_tracker
from mien.devices import FULL, autocast, choose_device
from mien.evaluation.comparison import TrackedClip
from mien.evaluation.drive import drive
from mien.face_model.clips import fit_frames
from mien.loki.driving import drive_faces, fill_frames
from mien.media import Frames, to_bytes
from mien.portrait.animator import Animator
from mien.session.loki import LokiSession, resized


@dataclass(frozen=True)
class Pair:
    """A driver and the portrait that is to follow, cropped alike, at one size.

    `driver` are the frames to follow, `rest` one frame of the driver's clip with the mouth shut,
    `portrait` one frame; `same_person` says that it is a frame of the driver's clip.
    """

    driver: TrackedClip
    rest: TrackedClip
    portrait: TrackedClip
    same_person: bool


@runtime_checkable
class System(Protocol):
    """Something that draws a portrait as a driver moves."""

    def __call__(self, pair: Pair) -> Frames:
        """The portrait at every frame of the driver, squares of any size."""
        ...


@dataclass(frozen=True)
class ImplicitSystem:
    """The first system, driven as `mien reenact` does: relative to the driver at rest, or, if
    portrait and driver are one person, by the motion itself.
    """

    animator: Animator
    precision: str = FULL

    @torch.inference_mode()
    def __call__(self, pair: Pair) -> Frames:
        """Frames of the animator's size."""
        size, device = self.animator.config.image_size, next(self.animator.parameters()).device
        count, rest = len(pair.driver), None
        frames = pair.driver.frames
        if not pair.same_person:
            frames, rest = np.concatenate([frames, pair.rest.frames]), count
        portrait, moving = (
            resized(pictures, size).to(device)
            for pictures in (pair.portrait.pictures, to_picture(torch.from_numpy(frames)))
        )
        with autocast(device, self.precision):
            drawn = [to_bytes(part) for part in drive(self.animator, portrait, moving, rest)]
        return np.concatenate(drawn)[:count]


def implicit_system(given: Namespace) -> System:
    """The first system with the animator of the command line.

    Raises:
        UserError: its weights cannot be read.
    """
    animator = load_animator(given.animator or default_weights()[0])
    return ImplicitSystem(animator.to(choose_device(given.device)), given.precision)


@dataclass(frozen=True)
class LokiSystem:
    """Loki, driven as `mien reenact --system loki` does by a video of these frames alone: relative
    to the driver's usual pose in them, or, if portrait and driver are one person, by the driver's
    own coefficients.
    """

    session: LokiSession
    seed: int = 0

    def __call__(self, pair: Pair) -> Frames:
        """Frames of the net's size."""
        count = len(pair.driver)
        faces = fit_frames(pair.driver.frames, "a driver", face_tracker(), face_model())
        portrait = self.session.read(pair.portrait.pictures)
        transfer = "same_person" if pair.same_person else "relative"
        driven = drive_faces(face_model(), portrait.faces, faces, transfer)
        drawn = self.session.draw(portrait, fill_frames(driven, count), self.seed)
        return np.concatenate([frames.pictures for frames in drawn])


def loki_system(given: Namespace) -> System:
    """Loki with the weights and the seed of the command line.

    Raises:
        UserError: they cannot be read.
    """
    return LokiSystem(LokiSession.load(given.loki, given.device, given.precision), given.seed)


SYSTEMS: dict[str, Callable[[Namespace], System]] = {"mien": implicit_system, "loki": loki_system}
