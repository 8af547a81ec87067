"""Values of frames between those in which they are known.

Axes: n known frames, t wanted frames.
"""

import numpy as np
from jaxtyping import Float, Int

Array = np.ndarray


def at_frames(
    values: Float[Array, "n ..."], frames: Int[Array, " n"], wanted: Int[Array, " t"]
) -> Float[Array, "t ..."]:
    """`values` of the numbered `frames` (rising) at other frames: linear between neighbours,
    constant before the first and after the last.
    """
    place = np.interp(wanted, frames, np.arange(len(frames)))
    before = np.floor(place).astype(int)
    after = np.minimum(before + 1, len(values) - 1)
    share = (place - before).reshape(-1, *[1] * (values.ndim - 1))
    return ((1 - share) * values[before] + share * values[after]).astype(values.dtype)
