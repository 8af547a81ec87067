"""Which engine renders: the candidates, fastest first, and the choice among them.

Axes: b batch, t video frames, m implicit motion, H W space.
"""

import os
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from mien.devices import AUTO, CPU, FULL, MIXED, autocast, cpu_has_bfloat16
from mien.engines.cache import is_kept
from mien.ops.back_ends import BackEnd, Operation, loaded
from mien.portrait.animator import Animator
from mien.types import Guide, PreparedSource


@runtime_checkable
class Engine(Protocol):
    """Renders frames of one animator; several threads may use it at the same time.

    `what` names it in reports, with its version and precision; `chunks_at_once` calls of `render`
    at the same time are fastest.
    """

    @property
    def what(self) -> str:
        """Name, version and precision."""
        ...

    @property
    def chunks_at_once(self) -> int:
        """How many threads should render."""
        ...

    def render(
        self,
        source: PreparedSource,
        motion: Float[Tensor, "b t m"],
        guide: Guide | None = None,
        drawn: slice = slice(None),
    ) -> Float[Tensor, "b _ 3 H W"]:
        """Frames, as `Animator.render_prepared` gives them."""
        ...


_CHUNKS_AT_ONCE = 4  # at most: more take more memory, and longer until the first frame
Make = Callable[[Animator, str], Engine]  # of an animator and a precision (`mien.devices`)


def chunks_on_cpu() -> int:
    """How many chunks to render at the same time, by torch's number of threads."""
    return min(torch.get_num_threads(), _CHUNKS_AT_ONCE)


class TorchEngine:
    """The animator itself, on its own device.

    Args:
        animator: in evaluation mode.
        precision: auto draws in bf16-mixed on CPUs that compute in bfloat16, but for nets whose
            frames no test compares; any other one is set by the caller, by autocast.
    """

    def __init__(self, animator: Animator, precision: str) -> None:
        self._animator, self._device = animator, next(animator.parameters()).device
        mixed = precision == AUTO and self._device.type == CPU and cpu_has_bfloat16()
        mixed = mixed and not _unmeasured(animator)
        self._own = MIXED if mixed else FULL
        # Chunks side by side leave fewer threads idle than operations that are divided among all.
        self.chunks_at_once = chunks_on_cpu() if self._device.type == CPU else 1
        self.what = f"torch, {self._own if precision == AUTO else precision}"

    def render(
        self,
        source: PreparedSource,
        motion: Float[Tensor, "b t m"],
        guide: Guide | None = None,
        drawn: slice = slice(None),
    ) -> Float[Tensor, "b _ 3 H W"]:
        """Frames in [-1, 1]; `drawn` as `Animator.draw` takes it."""
        with autocast(self._device, self._own):
            return self._animator.render_prepared(source, motion, guide, drawn)


def _load_openvino() -> Make:
    from mien.engines.openvino import OpenvinoEngine, has_bfloat16

    has_bfloat16()  # fails where OpenVINO has no working plug-in for the CPU
    return OpenvinoEngine


def _load_onnxruntime() -> Make:
    from mien.engines.onnxruntime import OnnxruntimeEngine

    return OnnxruntimeEngine


def _load_compile() -> Make:
    from mien.engines.compile import CompileEngine

    return CompileEngine


# Those after torch are only used where they are asked for: onnxruntime is no faster on a CPU, and
# compile, which is meant for a GPU, takes minutes until its first frame.
RENDERING: Operation[Make] = Operation(
    "rendering",
    "MIEN_ENGINE",
    (
        BackEnd("openvino", ("cpu",), _load_openvino),
        BackEnd("torch", (), lambda: TorchEngine),
        BackEnd("onnxruntime", ("cpu",), _load_onnxruntime),
        BackEnd("compile", (), _load_compile),
    ),
)


def choose_engine(animator: Animator, precision: str = AUTO, forced: str | None = None) -> Engine:
    """The engine of that name; without one (None or auto), that of the environment variable
    MIEN_ENGINE, or the fastest that works here. The same installation on one machine always gives
    the same one.

    Raises:
        UserError: the one that is named cannot be used here, or not for this animator.
    """
    named = forced or AUTO
    if named == AUTO:
        named = os.environ.get(RENDERING.variable) or AUTO

    def refuse(name: str) -> str | None:
        problem = refusal(name, animator)
        return problem or (slower(name, animator, precision) if named == AUTO else None)

    _, make = RENDERING.choose(next(animator.parameters()).device.type, refuse, named)
    return make(animator, precision)


def refusal(name: str, animator: Animator) -> str | None:
    """Why an engine cannot render this animator, or None."""
    device = next(animator.parameters()).device
    if name == "torch":
        return None
    if name == "compile":
        from mien.engines.compile import missing_compiler

        if problem := missing_compiler(device.type):
            return problem
    elif device.type != CPU:
        return f"it needs --device cpu, and the animator is on {device}"
    if animator.config.temporal_context:
        return "it renders each frame alone, and this animator convolves over frames"
    return None


def _unmeasured(animator: Animator) -> bool:
    """Whether the net is of a kind whose frames in bfloat16 no test compares closely with those in
    float32.
    """
    config = animator.config
    return config.decoder == "spade" or config.attention_volume or config.temporal_context > 0


def converted(name: str, animator: Animator, guided: bool = True) -> bool:
    """Whether an engine, which must be installed, can render without converting or compiling the
    net first.
    """
    if name == "torch":
        return True
    if name == "compile":
        return False  # torch itself keeps what it compiled
    if name == "openvino":
        from mien.engines.openvino import graph_folder
    else:
        from mien.engines.onnxruntime import graph_folder
    return is_kept(graph_folder(animator, guided and animator.config.guide))


def slower(name: str, animator: Animator, precision: str = AUTO) -> str | None:
    """Why an engine is not chosen unless it is named, or None."""
    if name == "compile":
        return "compiling takes minutes, and on a CPU it was measured slower than torch"
    if name != "openvino":
        return None
    if animator.config.decoder == "none":
        return "torch was measured faster with nets without an image decoder"
    if _unmeasured(animator):
        return "no test compares it with torch for such a net (SPADE, 3-D attention, context)"
    if precision == FULL:
        return f"in {FULL} it is no faster than torch"
    if cpu_has_bfloat16():
        return "torch renders in bfloat16 here too, as fast, and starts sooner"
    (back_end,) = (each for each in RENDERING.back_ends if each.name == name)
    if loaded(back_end)[0] is None:
        return None  # which `RENDERING` reports
    from mien.engines.openvino import has_bfloat16

    return None if has_bfloat16() else "this processor has no bfloat16 arithmetic"
