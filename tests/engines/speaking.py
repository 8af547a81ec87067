"""What engines render in tests: a real portrait, prepared, and motion of real speech."""

import math
from dataclasses import dataclass, fields
from importlib.resources import files

import torch
from skimage import data
from torch import Tensor

from mien.portrait.animator import Animator
from mien.session import Session
from mien.types import Guide, PreparedSource

FRAMES = 11  # one chunk and a part of a second one


@dataclass(frozen=True)
class Speaking:
    """Inputs of `Animator.render_prepared` and the frames that torch renders of them."""

    animator: Animator
    source: PreparedSource
    motion: Tensor
    guide: Guide
    frames: Tensor


def speaking() -> Speaking:
    """The astronaut says the demo's sentence, with the shipped weights."""
    session = Session.load(engine="torch")
    with torch.inference_mode():
        portrait = session.prepare(data.astronaut())
        sound = session.encode(str(files("mien") / "assets" / "demo.wav"), end=2.0)
        motion = next(session.generate(portrait, sound))[:, 12 : 12 + FRAMES]
        guide = session.guides_of_speech(portrait)(motion)
        assert guide is not None
        motion = motion[..., : portrait.motion.shape[1]]
        animator = session.animator
        source = animator.prepare_source(portrait.appearance, portrait.motion)
        frames = animator.render_prepared(source, motion, guide)
    return Speaking(animator, source, motion, guide, frames)


def guides(guide: Guide, which: slice) -> Guide:
    """The guides of some of the frames."""
    return Guide(*(getattr(guide, f.name)[which] for f in fields(Guide)))


def decibels(frames: Tensor, expected: Tensor) -> float:
    """Peak signal-to-noise ratio of frames in [-1, 1]."""
    return -10 * math.log10(((frames - expected) / 2).square().mean().item())
