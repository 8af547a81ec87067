"""Post-processing of generated motion: head sway, rest in silence, user controls, blinks.

Axes: t video frames, n motion dimensions, of which a mesh's head pose is the last part.
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
    """The motion to render, with one value appended per frame: how far the eyelids are closed.

    `gate` is 1 in frames with speech, 0 in silence; `at_rest` is the portrait's own motion. Sway is
    added only where the net generates mesh motion.
    """
    frames = len(gate)
    if config.mesh:
        windows = with_sway(windows, frames, seed)
    windows = rest_in_silence(windows, gate, at_rest)
    windows = controls.apply(windows, at_rest, config.motion_blocks)
    return with_blinks(windows, frames, seed, controls.blink)


def with_sway(windows: Windows, frames: int, seed: int) -> Windows:
    """Add head sway to the pose, the last dimensions of each frame."""
    curve = torch.from_numpy(sway_curve(frames, seed)).float()
    for motion, sway in _with_curve(windows, curve):
        yield motion + F.pad(sway, (motion.shape[2] - sway.shape[1], 0))


def rest_in_silence(
    windows: Windows, gate: Float[Tensor, " t"], at_rest: Float[Tensor, "1 n"]
) -> Windows:
    """Interpolate between the portrait's own motion (gate 0) and the generated motion (gate 1)."""
    for motion, share in _with_curve(windows, gate[:, None]):
        yield torch.lerp(at_rest[:, None], motion, share)


def with_blinks(windows: Windows, frames: int, seed: int, rate: float) -> Windows:
    """Append to the motion of each frame how far the eyelids are closed; `rate` per minute."""
    curve = torch.from_numpy(blink_curve(frames, seed, rate)).float()
    for motion, shut in _with_curve(windows, curve[:, None]):
        yield torch.cat((motion, shut[None]), dim=2)


def _with_curve(
    windows: Windows, curve: Float[Tensor, "t k"]
) -> Iterator[tuple[Float[Tensor, "1 _ n"], Float[Tensor, "_ k"]]]:
    """Each window with the curve's values of its frames."""
    start = 0
    for motion in windows:
        yield motion, curve[start : start + motion.shape[1]].to(motion)
        start += motion.shape[1]
