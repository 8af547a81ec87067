"""Figures of series over the frames of a clip. What cannot be computed is NaN.

Axes: t video frames.
"""

import numpy as np
import torch
from jaxtyping import Float

from mien.metrics import correlation

Series = Float[np.ndarray, " t"]

UNKNOWN = float("nan")


def pearson(x: Series, y: Series) -> float:
    """Pearson's r; 0 where either does not change, NaN where either is not known."""
    if len(x) < 2 or not (np.isfinite(x).all() and np.isfinite(y).all()):
        return UNKNOWN
    return correlation(torch.from_numpy(x), torch.from_numpy(y))


def slope(x: Series, y: Series) -> float:
    """By how much x changes where y changes by 1 (least squares)."""
    away = y - y.mean()
    return ratio(float((x - x.mean()) @ away), float(away @ away))


def ratio(part: float, whole: float) -> float:
    """A quotient; NaN where the whole is nothing."""
    return part / whole if whole > 1e-12 else UNKNOWN
