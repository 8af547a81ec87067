"""Graphs as files of ONNX, for any runtime.

Axes: b batch, t video frames.
"""

import json
import re
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from mien.engines.graph import Graph, exporting, render_graph
from mien.engines.graphs import graphs
from mien.errors import UserError, first_line
from mien.kinds import fingerprint
from mien.media.files import written_whole
from mien.motion.speech_to_motion import SpeechToMotion
from mien.portrait.animator import Animator

if TYPE_CHECKING:
    import onnx

OPSET = 20  # the first whose GridSample and Gelu are those of torch
_OF_SPEECH = "audio_encoder", "denoiser"
NAMES = ("appearance", "motion_encoder", "render", *_OF_SPEECH)


def write_graphs(
    animator: Animator,
    speech: SpeechToMotion,
    folder: Path,
    names: tuple[str, ...] = NAMES,
    finished: Callable[[Path], None] = lambda path: None,
) -> None:
    """Write the named graphs, each as NAME.onnx with kind, config and fingerprint of its weights as
    metadata; `render` takes guides if the animator does. `finished` is called after each.

    Raises:
        OSError: the folder cannot be written.
        UserError: as `converted`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    others = graphs(animator, speech)
    for name in names:
        with exporting():
            graph = others[name]() if name in others else render_graph(animator, 3, guided=True)
        model = converted(graph)
        describe(model, name, speech if name in _OF_SPEECH else animator)
        path = folder / f"{name}.onnx"
        save(model, path)
        finished(path)


def save(model: "onnx.ModelProto", path: Path) -> None:
    """Write a model atomically."""
    with written_whole(path) as unfinished:
        unfinished.write_bytes(model.SerializeToString())


def converted(graph: Graph) -> "onnx.ModelProto":
    """The graph as a model of ONNX, whose dynamic axes are named b and t.

    Raises:
        UserError: the net has an operation that torch cannot export.
    """
    import onnxscript  # noqa: F401  whose absence torch reports as an error of its own

    try:
        program = graph.export(dynamic=True)
        with exporting():
            written = torch.onnx.export(
                program,
                input_names=list(graph.inputs),
                output_names=list(graph.outputs),
                opset_version=OPSET,
                optimize=False,
                verbose=False,
            )
    except Exception as error:  # of torch's exporter, which has many
        raise UserError(
            f"the graph {graph.name} of these weights cannot be exported ({first_line(error)}): "
            "take weights of another config"
        ) from error
    assert written is not None
    model = written.model_proto
    _name_axes(model, graph)
    return model


def _name_axes(model: "onnx.ModelProto", graph: Graph) -> None:
    """Replace torch's symbols (s60) by the names of the dynamic axes."""
    values = {value.name: value for value in model.graph.input}
    names: dict[str, str] = {}
    for name, axes in zip(graph.inputs, graph.axes, strict=True):
        for axis, dimension in (axes or {}).items():
            symbol = re.search(r"s\d+", values[name].type.tensor_type.shape.dim[axis].dim_param)
            if symbol:
                names[symbol[0]] = dimension.__name__.rpartition("*")[2]
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            for symbol, name in names.items():
                if symbol in dim.dim_param:
                    dim.dim_param = re.sub(rf"\b{symbol}\b", name, dim.dim_param)


def describe(model: "onnx.ModelProto", name: str, net: Animator | SpeechToMotion) -> None:
    """Store what the graph is, and of which weights, in the model."""
    import onnx

    kind = "animator" if isinstance(net, Animator) else "speech_to_motion"
    metadata = {
        "mien.graph": name,
        "mien.kind": kind,
        "mien.fingerprint": fingerprint(net.state_dict()),
        "mien.config": json.dumps(asdict(net.config)),
    }
    if isinstance(net, SpeechToMotion):
        metadata["mien.sampling"] = json.dumps(asdict(net.sampling))
    onnx.helper.set_model_props(model, metadata)
