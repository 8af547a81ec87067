"""The engine compile: torch's own operations, fused by torch.compile. It is meant for a GPU, where
nobody has measured it; on a CPU it works and is slower than torch.

The net lays its maps out channels last itself, which the compiler keeps. It compiles one graph for
FRAMES_AT_ONCE frames, and keeps what it compiled in torch's cache folder (TORCHINDUCTOR_CACHE_DIR).
Axes: b batch (1), t video frames, m implicit motion, H W space.
"""

import logging
import os
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from mien.devices import AUTO, CPU, CUDA, FULL
from mien.engines.graph import named_tensors, some_frames, with_tensors
from mien.errors import UserError, first_line
from mien.portrait.animator import Animator
from mien.portrait.streaming import FRAMES_AT_ONCE
from mien.types import Guide, PreparedSource

_log = logging.getLogger("mien")
TORCH = Path(torch.__file__).parent
_COMPILERS = {"darwin": "clang++", "win32": "cl"}  # torch's choice; g++ elsewhere


def missing_compiler(device: str) -> str | None:
    """Why torch.compile cannot compile for a device type, or None."""
    if device == CUDA:
        return None if find_spec("triton") else "it needs triton, which is not installed"
    if device != CPU:
        return f"it needs --device cpu or cuda, and the animator is on {device}"
    name = os.environ.get("CXX") or _COMPILERS.get(sys.platform, "g++")
    if not shutil.which(name):
        return f"it needs a C++ compiler, and there is no {name}: install one, or name it in CXX"
    if any(character.isspace() for character in str(TORCH)):
        return f"torch gives a compiler no paths with spaces, and lies in {TORCH}"
    return None


class CompileEngine:
    """Renders the frames of an animator on its own device; the caller sets the precision by
    autocast. The first frames take a minute or more, and so do the first ones of another precision,
    without a guide instead of with one, or with another number of threads.

    Args:
        animator: in evaluation mode.
        precision: names the engine in reports.
    """

    def __init__(self, animator: Animator, precision: str = AUTO) -> None:
        self._guided = animator.config.guide
        self._compiled = torch.compile(animator.render_prepared, fullgraph=True, dynamic=False)
        self._announced = False
        self.chunks_at_once = 1  # it divides each operation among its threads
        precision = FULL if precision == AUTO else precision
        self.what = f"compile, torch {torch.__version__}, {precision}"

    def render(
        self,
        source: PreparedSource,
        motion: Float[Tensor, "1 t m"],
        guide: Guide | None = None,
        drawn: slice = slice(None),
    ) -> Float[Tensor, "1 _ 3 H W"]:
        """Frames in [-1, 1]; `drawn` as `Animator.draw` takes it.

        Raises:
            UserError: torch cannot compile the animator.
        """
        guide, motion = guide if self._guided else None, motion[:, drawn]
        if not self._announced:
            self._announced = True
            _log.warning("compile: torch compiles the net, which takes minutes the first time ...")
        count = motion.shape[1]
        chunks = [
            self._chunk(source, motion, guide, start) for start in range(0, count, FRAMES_AT_ONCE)
        ]
        return torch.cat(chunks, dim=1)[:, :count]

    def _chunk(
        self, source: PreparedSource, motion: Tensor, guide: Guide | None, start: int
    ) -> Tensor:
        """FRAMES_AT_ONCE frames from `start` on, the last one repeated at the end. The inputs of
        every chunk have the same strides: for others torch would compile anew.
        """
        inputs = {"motion": motion, **named_tensors(guide, "guide")}
        some = some_frames(inputs, start, FRAMES_AT_ONCE).values()
        own, *planes = (x.clone(memory_format=torch.contiguous_format) for x in some)
        # Imported late, with the compiler.
        from torch._dynamo.exc import FailOnRecompileLimitHit, TorchDynamoException

        try:
            return self._compiled(source, own, with_tensors(guide, iter(planes)))
        except (TorchDynamoException, FailOnRecompileLimitHit) as error:  # of compilers, too
            raise UserError(
                f"torch cannot compile this animator ({first_line(error)}): give --engine torch"
            ) from error
