"""TFLite inference of the small nets in assets/, deterministic on one thread each. The only module
using ai_edge_litert, which logs once per process to stderr ("INFO: Created TensorFlow Lite ...")
from C, so only redirecting the process's file descriptor would silence it, for all threads.
"""

import threading
from pathlib import Path

import numpy as np
from jaxtyping import Float

from mien.face.geometry import Array

ASSETS = Path(__file__).parents[1] / "assets"


class TfliteNet:
    """A net that takes one array, as a square picture: one of assets/ by name, or the bytes of a
    file.
    """

    def __init__(self, net: str | bytes) -> None:
        from ai_edge_litert.interpreter import Interpreter

        content = (ASSETS / f"{net}.tflite").read_bytes() if isinstance(net, str) else net
        self._interpreter = Interpreter(model_content=content, num_threads=1)
        self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._outputs = [d["index"] for d in self._interpreter.get_output_details()]
        self._busy = threading.Lock()  # the interpreter holds one input and its outputs

    def __call__(self, values: Float[Array, "*axes"]) -> list[Array]:
        """All outputs, with a batch axis."""
        with self._busy:
            self._interpreter.set_tensor(self._input, values[None].astype(np.float32))
            self._interpreter.invoke()
            return [self._interpreter.get_tensor(index) for index in self._outputs]
