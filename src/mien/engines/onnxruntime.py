"""The engine onnxruntime: frames rendered by ONNX Runtime on the CPU, in float32.

Its graph is that of `mien export`, kept in the cache folder. Axes: b batch (1), t video frames,
m implicit motion, H W space.
"""

import logging
import threading
from importlib.metadata import version
from pathlib import Path

import onnxruntime
import torch
from jaxtyping import Float
from torch import Tensor

from mien.devices import AUTO
from mien.engines.cache import cache_folder, graph_name, is_kept, write_folder
from mien.engines.graph import render_graph, render_inputs, some_frames
from mien.errors import UserError
from mien.portrait.animator import Animator
from mien.types import Guide, PreparedSource

_log = logging.getLogger("mien")


class OnnxruntimeEngine:
    """Renders the frames of an animator on the CPU, with torch's number of threads.

    Args:
        animator: in evaluation mode; its weights must not change afterwards.
        precision: without effect, all is computed in float32.
    """

    def __init__(self, animator: Animator, precision: str = AUTO) -> None:
        self._animator = animator
        self._sessions: dict[bool, onnxruntime.InferenceSession] = {}  # with a guide, and without
        self.chunks_at_once = 1  # it divides each operation among its threads
        self._lock = threading.Lock()  # of making them
        self.what = f"onnxruntime {version('onnxruntime')}, 32-true"

    def render(
        self,
        source: PreparedSource,
        motion: Float[Tensor, "1 t m"],
        guide: Guide | None = None,
        drawn: slice = slice(None),
    ) -> Float[Tensor, "1 _ 3 H W"]:
        """Frames in [-1, 1]; `drawn` as `Animator.draw` takes it."""
        guide = guide if self._animator.config.guide else None
        inputs = render_inputs(source, motion[:, drawn], guide)
        count = inputs["motion"].shape[1]
        if count == 1:  # the graph is one of two frames and more
            inputs = some_frames(inputs, 0, 2)
        with self._lock:
            session = self._session(guide is not None)
        taken = [value.name for value in session.get_inputs()]
        (frames,) = session.run(None, {name: inputs[name].float().numpy() for name in taken})
        return torch.from_numpy(frames)[None, :count]

    def _session(self, guided: bool) -> onnxruntime.InferenceSession:
        if guided not in self._sessions:
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = torch.get_num_threads()
            options.log_severity_level = 3  # errors: its warnings are of constants it cannot fold
            model = _kept_model(self._animator, guided)
            try:
                self._sessions[guided] = onnxruntime.InferenceSession(model, options)
            except Exception as error:  # onnxruntime has one for each of its statuses
                raise UserError(
                    f"onnxruntime cannot read the graph in {graph_folder(self._animator, guided)}: "
                    "delete this folder, or give --engine torch"
                ) from error
        return self._sessions[guided]


def graph_folder(animator: Animator, guided: bool) -> Path:
    """Where the graph of this animator is kept, whether or not it is there."""
    return cache_folder() / graph_name(animator, "onnx", guided)


def _kept_model(animator: Animator, guided: bool) -> bytes:
    """The model from the cache folder, or converted and put there."""
    from mien.engines.onnx import converted, describe, save

    folder = graph_folder(animator, guided)
    if is_kept(folder):
        try:
            return (folder / "render.onnx").read_bytes()
        except OSError:
            _log.warning(f"onnxruntime: {folder} cannot be read")
    _log.warning("onnxruntime: the net is converted, once for these weights (about a minute) ...")
    model = converted(render_graph(animator, 3, guided))
    describe(model, "render", animator)

    def write(there: Path) -> None:
        save(model, there / "render.onnx")

    if not write_folder(folder, write):
        _log.warning(f"onnxruntime: {folder.parent} cannot be written: the next run converts again")
    return model.SerializeToString()
