"""A graph of OpenVINO cut by precision: what determines positions, and what draws.

OpenVINO computes a whole model in one precision, and bfloat16 is too coarse for positions in a
picture (`mien.ops.precision`). So the graph becomes a chain of models, in float32 and in bfloat16
by turns. In bfloat16 are the convolutions of features that were sampled (the region attention, the
frame decoder), with what lies between them; in float32 the deviations, displacements and sampling
positions, all sampling itself (`mien.engines.openvino_sampling`), and the composition of the
picture.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import openvino as ov
from openvino import opset13

_PRODUCTS = "Convolution", "ConvolutionBackpropData", "GroupConvolution"
_SAMPLING = "SampleMaps"
_NO_WORK = "Parameter", "Constant", "Result"


@dataclass(frozen=True)
class Part:
    """A model of the chain and whether it computes in bfloat16.

    Inputs and outputs are named: those of the whole by their own names, what one part gives another
    by the operation that computes it.
    """

    model: ov.Model
    coarse: bool


def cut(model: ov.Model) -> list[Part]:
    """The parts of a model of static shapes, in the order in which they run."""
    for number, node in enumerate(model.get_ordered_ops()):
        node.set_friendly_name(f"{number} {node.get_type_name()}")
    for parameter in model.inputs:
        parameter.get_node().set_friendly_name(parameter.get_any_name())
    levels = _levels(model)
    return [
        Part(_part(model, levels, level), level % 2 == 1) for level in sorted(set(levels.values()))
    ]


def _name(node: ov.Node) -> str:
    return node.get_friendly_name()


def _operations(model: ov.Model) -> list[ov.Node]:
    return [node for node in model.get_ordered_ops() if node.get_type_name() not in _NO_WORK]


def _inputs(node: ov.Node) -> list[str]:
    return [_name(value.get_node()) for value in node.input_values()]


def _users(node: ov.Node) -> list[str]:
    return [_name(there.get_node()) for out in node.outputs() for there in out.get_target_inputs()]


def _levels(model: ov.Model) -> dict[str, int]:
    """The number of its part for every operation: even ones are float32, odd ones bfloat16."""
    coarse = _coarse(model)
    levels: dict[str, int] = {}
    for node in _operations(model):
        least = max((levels.get(name, 0) for name in _inputs(node)), default=0)
        levels[_name(node)] = least + (least % 2 != (_name(node) in coarse))
    return levels


def _coarse(model: ov.Model) -> set[str]:
    """Products of sampled features, and all between two of them that as many samplings precede."""
    operations = _operations(model)
    depths: dict[str, int] = {}  # how many samplings follow one another up to an operation
    products, after, before = set[str](), set[str](), set[str]()
    for node in operations:
        name, sampling = _name(node), node.get_type_name() == _SAMPLING
        depth = max((depths.get(other, 0) for other in _inputs(node)), default=0)
        depths[name] = depth + sampling
        if node.get_type_name() in _PRODUCTS and depth:
            products.add(name)
        same = (other in after and depths[other] == depths[name] for other in _inputs(node))
        if name in products or (not sampling and any(same)):
            after.add(name)
    for node in reversed(operations):
        name = _name(node)
        same = (other in before and depths[other] == depths[name] for other in _users(node))
        if name in products or any(same):
            before.add(name)
    coarse = after & before
    for node in operations:  # the layout of a result that only draws is left to what draws
        sampled = _SAMPLING in (value.get_node().get_type_name() for value in node.input_values())
        if sampled and node.get_type_name() == "Transpose" and coarse.issuperset(_users(node)):
            coarse.add(_name(node))
    return coarse


def _part(model: ov.Model, levels: dict[str, int], level: int) -> ov.Model:
    """The operations of one level as a model of their own."""
    own = [name for name in levels if levels[name] == level]
    nodes = {_name(node): node for node in model.clone().get_ordered_ops()}
    parameters: dict[str, ov.Node] = {}
    for name in own:
        for into in nodes[name].inputs():
            source = into.get_source_output()
            given = source.get_node()
            if given.get_type_name() == "Constant" or levels.get(_name(given)) == level:
                continue
            key = _tensor_name(source)
            if key not in parameters:
                parameters[key] = opset13.parameter(
                    source.get_shape(), source.get_element_type(), key
                )
                parameters[key].output(0).get_tensor().set_names({key})
            into.replace_source_output(parameters[key].output(0))
    results = []
    for output in _given_away(model, levels, level):
        there = nodes[_name(output.get_node())].output(output.get_index())
        there.get_tensor().set_names({_tensor_name(output)})
        results.append(opset13.result(there))
    return ov.Model(results, list(parameters.values()))  # pyright: ignore[reportGeneralTypeIssues]


def _given_away(model: ov.Model, levels: dict[str, int], level: int) -> Iterator[ov.Output]:
    """What operations of this level compute and others, or the results, take."""
    for node in _operations(model):
        if levels[_name(node)] != level:
            continue
        for output in node.outputs():
            users = (_name(there.get_node()) for there in output.get_target_inputs())
            if any(levels.get(user) != level for user in users):
                yield output


def _tensor_name(output: ov.Output) -> str:
    node = output.get_node()
    return (
        _name(node)
        if node.get_type_name() == "Parameter"
        else f"{_name(node)} {output.get_index()}"
    )
