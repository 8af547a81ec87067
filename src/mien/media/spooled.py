"""Long arrays kept in an unnamed temporary file, which the system pages in and out of memory.

An hour of sound takes gigabytes as float32; so does nothing but the disk.
"""

import tempfile

import numpy as np
from jaxtyping import Float

Array = np.ndarray


class Spooled:
    """Rows of one type and width appended to a temporary file, which is deleted with its last
    array. Without rows the array has one column.
    """

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115  it lives as long as its arrays
        self._dtype, self._width = np.dtype(np.float32), 1

    def append(self, rows: Float[Array, "n c"]) -> None:
        """Add rows."""
        self._dtype, self._width = rows.dtype, rows.shape[1]
        self._file.write(np.ascontiguousarray(rows).data)

    def array(self) -> Float[Array, "_ _"]:
        """All rows, mapped from the file; changes of them are kept."""
        count = self._file.tell() // (self._dtype.itemsize * self._width)
        if not count:
            return np.zeros((0, self._width), self._dtype)
        self._file.flush()
        return np.memmap(self._file, self._dtype, "r+", shape=(count, self._width))


def scale_down(samples: Float[Array, "c s"]) -> None:
    """Divide by the peak, in place, where it is above full scale."""
    peak = max(float(samples.max(initial=0.0)), -float(samples.min(initial=0.0)))
    if peak > 1:
        samples /= peak
