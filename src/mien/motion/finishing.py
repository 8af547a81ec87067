"""What is done to generated motion before it is drawn: sway, rest in silence, controls, blinks.

Axes: t video frames, n motion numbers, of which those of a mesh's pose are the last.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from mien.mesh.blinks import blink_curve
from mien.mesh.sway import sway_curve
from mien.motion.controls import Controls
from mien.motion.speech_to_motion import SpeechToMotionConfig

Windows = Iterator[Float[Tensor, "1 _ n"]]


def finish(
    windows: Windows,
    gate: Float[Tensor, " t"],
    at_rest: Float[Tensor, "1 n"],
    config: SpeechToMotionConfig,
    controls: Controls,
    seed: int,
) -> Windows:
    """The motion to draw; behind its numbers stands how far the lids are shut.

    `gate` is 1 in the frames in which somebody speaks, 0 in silence; `at_rest` is the portrait's
    own motion. Only a net that makes a mesh lets the head sway.
    """
    frames = len(gate)
    if config.mesh:
        windows = with_sway(windows, frames, seed)
    windows = rest_in_silence(windows, gate, at_rest)
    windows = controls.apply(windows, at_rest, config.motion_blocks)
    return with_blinks(windows, frames, seed, controls.blink)


def with_sway(windows: Windows, frames: int, seed: int) -> Windows:
    """Let the head sway: added to the pose, the last numbers of each frame."""
    curve = torch.from_numpy(sway_curve(frames, seed)).float()
    for motion, sway in _beside(windows, curve):
        yield motion + F.pad(sway, (motion.shape[2] - sway.shape[1], 0))


def rest_in_silence(
    windows: Windows, gate: Float[Tensor, " t"], at_rest: Float[Tensor, "1 n"]
) -> Windows:
    """Let the face come to rest, as it is in the portrait, where the gate is shut."""
    for motion, share in _beside(windows, gate[:, None]):
        yield torch.lerp(at_rest[:, None], motion, share)


def with_blinks(windows: Windows, frames: int, seed: int, rate: float) -> Windows:
    """Put how far the lids are shut, one number more, behind the motion of each frame."""
    curve = torch.from_numpy(blink_curve(frames, seed, rate)).float()
    for motion, shut in _beside(windows, curve[:, None]):
        yield torch.cat((motion, shut[None]), dim=2)


def _beside(
    windows: Windows, curve: Float[Tensor, "t k"]
) -> Iterator[tuple[Float[Tensor, "1 _ n"], Float[Tensor, "_ k"]]]:
    """Each window with its part of the curve, where the window is."""
    start = 0
    for motion in windows:
        yield motion, curve[start : start + motion.shape[1]].to(motion)
        start += motion.shape[1]
