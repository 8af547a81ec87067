"""The engine openvino: frames rendered by OpenVINO on the CPU, in bfloat16 where that draws.

The graph is made from the animator once and kept in the cache folder (`mien.engines.cache`): as a
chain of models (`mien.engines.partition`) for FRAMES_AT_ONCE frames, since fixed shapes are faster.
Axes: b batch (1), t video frames, m implicit motion, H W space.
"""

import json
import logging
import queue
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import torch
from jaxtyping import Float
from torch import Tensor

from mien.devices import AUTO, FULL
from mien.engines.cache import cache_folder, graph_name, is_kept, write_folder
from mien.engines.choice import chunks_on_cpu
from mien.engines.graph import KERNELS, exporting, render_graph, render_inputs, some_frames
from mien.engines.openvino_sampling import CONVERSION, SampleMaps, failures, raise_failure
from mien.engines.partition import Part, cut
from mien.errors import UserError, first_line
from mien.portrait.animator import Animator
from mien.portrait.streaming import FRAMES_AT_ONCE
from mien.types import Guide, PreparedSource

_log = logging.getLogger("mien")
_COARSE = "bfloat16, positions in float32"


def has_bfloat16() -> bool:
    """Whether OpenVINO computes in bfloat16 on this processor."""
    return "BF16" in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


class OpenvinoEngine:
    """Renders the frames of an animator on the CPU, with torch's number of threads.

    The threads are divided among chunks of frames that are rendered at the same time, which leaves
    fewer of them idle than one operation that is divided among all.

    Args:
        animator: in evaluation mode; its weights must not change afterwards.
        precision: 32-true computes all in float32; any other one draws in bfloat16 where the
            processor has it.
    """

    def __init__(self, animator: Animator, precision: str = AUTO) -> None:
        self._animator = animator
        self._coarse = precision != FULL and has_bfloat16()
        self.chunks_at_once = chunks_on_cpu()
        self._idle: dict[bool, queue.Queue[Chain]] = {}  # with a guide, and without
        self._lock = threading.Lock()
        self.what = f"openvino {version('openvino')}, {_COARSE if self._coarse else FULL}"

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
        inputs = {name: tensor.float() for name, tensor in inputs.items()}
        count, frames = inputs["motion"].shape[1], []
        idle = self._idle_chains(guide is not None)
        chain = idle.get()
        try:
            for start in range(0, count, FRAMES_AT_ONCE):
                some = some_frames(inputs, start, FRAMES_AT_ONCE)
                frames.append(torch.from_numpy(chain.run(some)))
        finally:
            idle.put(chain)
        return torch.cat(frames)[None, :count]

    def _idle_chains(self, guided: bool) -> "queue.Queue[Chain]":
        with self._lock:
            if guided not in self._idle:
                parts = _kept_parts(self._animator, guided)
                compiled = compile_parts(
                    parts, self._coarse, torch.get_num_threads(), self.chunks_at_once
                )
                idle: queue.Queue[Chain] = queue.Queue()
                for _ in range(self.chunks_at_once):
                    idle.put(Chain(compiled))
                self._idle[guided] = idle
            return self._idle[guided]


def compile_parts(
    parts: list[Part], coarse: bool, threads: int, at_once: int
) -> list[ov.CompiledModel]:
    """Parts, in the order in which they run, for `at_once` chains among which the CPU threads are
    divided; `coarse` lets those that draw compute in bfloat16.
    """
    core = ov.Core()
    return [
        core.compile_model(
            part.model,
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": "bf16" if part.coarse and coarse else "f32",
                "INFERENCE_NUM_THREADS": threads,
                "NUM_STREAMS": at_once,
                "PERFORMANCE_HINT": "LATENCY",
                "ENABLE_CPU_PINNING": False,  # two programs on one machine would share a core
            },
        )
        for part in parts
    ]


class Chain:
    """Compiled parts that hand their results on; not to be used by two threads at once."""

    def __init__(self, parts: list[ov.CompiledModel]) -> None:
        given = dict[str, ov.Tensor]()
        # Requests, and the names of an input of the whole that each takes.
        self._takers: list[tuple[ov.InferRequest, set[str]]] = []
        self._requests: list[ov.InferRequest] = []
        for compiled in parts:
            request = compiled.create_infer_request()
            # Compiling may give a tensor a second name, that of a reshape which changes nothing.
            for names in (taken.get_names() for taken in compiled.inputs):
                if known := names & given.keys():
                    name = known.pop()
                    request.set_tensor(name, given[name])
                else:
                    self._takers.append((request, names))
            for output in compiled.outputs:
                given |= dict.fromkeys(output.get_names(), request.get_tensor(output))
            self._requests.append(request)

    def run(self, inputs: dict[str, Tensor]) -> Float[np.ndarray, "t 3 H W"]:
        """The last part's result, a copy; inputs that no part takes are not used."""
        arrays: dict[str, np.ndarray] = {}  # kept alive
        for request, names in self._takers:
            (name,) = names & inputs.keys()
            if name not in arrays:
                arrays[name] = inputs[name].contiguous().numpy()
            request.set_tensor(name, ov.Tensor(arrays[name], shared_memory=True))
        before = failures()
        for request in self._requests:
            request.infer()
        raise_failure(before)
        return self._requests[-1].get_output_tensor(0).data.copy()


def graph_folder(animator: Animator, guided: bool) -> Path:
    """Where the graph of this animator is kept, whether or not it is there."""
    return cache_folder() / graph_name(animator, version("openvino"), FRAMES_AT_ONCE, guided)


def _kept_parts(animator: Animator, guided: bool) -> list[Part]:
    """The parts from the cache folder, or converted and put there."""
    folder = graph_folder(animator, guided)
    if is_kept(folder):
        if (kept := _read(folder)) is not None:
            return kept
        _log.warning(f"openvino: {folder} is damaged and made anew")
        shutil.rmtree(folder, ignore_errors=True)
    _log.warning("openvino: the net is converted, once for these weights (about 10 s) ...")
    try:
        parts = cut(convert(animator, guided))
    except Exception as error:  # of torch's exporter or of OpenVINO, which have many
        raise UserError(
            f"openvino cannot convert this animator ({first_line(error)}): give --engine torch"
        ) from error
    if write_folder(folder, lambda there: _write(parts, there)):
        kept = _read(folder)  # as every later run does: the same models, the same bytes
        if kept is not None:
            return kept
    _log.warning(
        f"openvino: {folder.parent} cannot be written, the next run converts again: set MIEN_CACHE "
        "to a folder that can"
    )
    return parts


def convert(animator: Animator, guided: bool) -> ov.Model:
    """The graph of `Animator.render_prepared` for FRAMES_AT_ONCE frames."""
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.fx_decoder import TorchFXPythonDecoder
    from openvino.passes import ConstantFolding, Manager

    graph = render_graph(animator, FRAMES_AT_ONCE, guided)
    program, names = graph.export(False, KERNELS), list(graph.inputs)
    front_end = FrontEndManager().load_by_framework("pytorch")
    front_end.add_extension(CONVERSION)
    with _quiet(), exporting():
        decoder = TorchFXPythonDecoder.from_exported_program(program)
        model = front_end.convert(front_end.load(decoder))
    shapes: dict[Any, list[int]] = {}
    for node in model.inputs:
        name = names[int(node.get_any_name().rpartition("_")[2])]
        node.get_tensor().set_names({name})
        shapes[node] = list(graph.inputs[name].shape)
    model.reshape(shapes)
    manager = Manager()
    manager.register_pass(ConstantFolding())  # leaves no operation on shapes, which parts would cut
    manager.run_passes(model)
    return model


@contextmanager
def _quiet() -> Iterator[None]:
    """Without OpenVINO's warnings of operations that torch no longer decomposes."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def _write(parts: list[Part], folder: Path) -> None:
    for number, part in enumerate(parts):
        ov.save_model(part.model, folder / f"{number}.xml", compress_to_fp16=False)
    coarse = [part.coarse for part in parts]
    (folder / "parts.json").write_text(json.dumps(coarse), encoding="utf-8")


def _read(folder: Path) -> list[Part] | None:
    """The parts in a folder; None if it is damaged."""
    core = ov.Core()
    core.add_extension(SampleMaps)
    try:
        coarse = json.loads((folder / "parts.json").read_text(encoding="utf-8"))
        return [
            Part(core.read_model(folder / f"{number}.xml"), bool(kind))
            for number, kind in enumerate(coarse)
        ]
    except (OSError, RuntimeError, ValueError):  # of files, of OpenVINO, of JSON
        return None
