"""Sampling of maps as an operation of OpenVINO's graphs, computed by `mien.ops.sampling_numba`.

OpenVINO's own GridSample takes a source that is repeated for every frame, and several times as
long. Axes as in `mien.ops.sampling`.
"""

from typing import Any

import numpy as np
import openvino as ov
from openvino import opset13
from openvino.frontend.pytorch import ConversionExtension

from mien.ops.sampling import PLANES

_failures: list[Exception] = []


def failures() -> int:
    """How many operations of any graph have failed in this process."""
    return len(_failures)


def raise_failure(before: int) -> None:
    """Raise what went wrong since there were `before` failures, in whichever thread: an operation
    does not know which graph it belongs to.
    """
    if failures() > before:
        raise _failures[-1]


class SampleMaps(ov.Op):
    """Maps (n c h1 w1) and places (b h2 w2 2) -> b h2 w2 c, or b c h2 w2 of few channels."""

    def __init__(self, inputs: list[ov.Output] | None = None) -> None:
        super().__init__(self, inputs)

    def validate_and_infer_types(self) -> None:
        """Tell OpenVINO the shape of the result."""
        maps, (b, h2, w2, _) = (self.get_input_partial_shape(i) for i in (0, 1))
        shape = [b, maps[1], h2, w2] if _as_planes(maps) else [b, h2, w2, maps[1]]
        self.set_output_type(0, self.get_input_element_type(0), ov.PartialShape(shape))

    def clone_with_new_inputs(self, inputs: list[ov.Output]) -> "SampleMaps":
        """The same operation elsewhere."""
        return SampleMaps(inputs)

    def evaluate(self, outputs: Any, inputs: Any) -> bool:
        """Compute; OpenVINO goes on after an error, so that it is kept for `raise_failure`."""
        try:
            # Imported late, with numba.
            from mien.ops.sampling_numba import sample_into

            maps, places = (given.data for given in inputs)
            sample_into(maps, places, outputs[0].data)
        except Exception as error:
            _failures.append(error)
        return True

    def has_evaluate(self) -> bool:
        """OpenVINO asks for it."""
        return True

    def visit_attributes(self, visitor: object) -> bool:
        """It has none."""
        return True


def _as_planes(maps: ov.PartialShape) -> bool:
    return maps[1].get_length() <= PLANES


def _converted(context) -> list[ov.Output]:
    inputs = [context.get_input(0), context.get_input(1)]
    sampled = SampleMaps(inputs)
    if _as_planes(inputs[0].get_partial_shape()):
        return sampled.outputs()
    return opset13.transpose(sampled, np.array([0, 3, 1, 2])).outputs()


# Of `mien.ops.sampling`'s operation in torch's graphs.
CONVERSION = ConversionExtension("mien.sample_maps.default", _converted)
