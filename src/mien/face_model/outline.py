"""The opening between the inner lips, as a polygon in the picture.

Axes: n points of the polygon, p pixels. Everything is in pixels.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from mien.face.geometry import Array
from mien.mesh.alignment import HeadPose
from mien.mesh.topology import INNER, Points

_HALF = len(INNER) // 2  # the upper lip has points 0 to 10, the lower one those back to 0


@dataclass(frozen=True)
class Outline:
    """The inner lips' ring (where lips cross, both lie on the line where they meet), its middle
    and half axis, its width and the gap in its middle.
    """

    ring: Float[Array, "n 2"]
    middle: Float[Array, " 2"]
    axis: Float[Array, " 2"]
    width: float
    gap: float

    @classmethod
    def of(cls, points: Points, pose: HeadPose) -> "Outline":
        """Read it from the 468 points; `pose` says which way is down."""
        ring = points[list(INNER), :2].copy()
        down = pose.rotation[:2, 1] / np.linalg.norm(pose.rotation[:2, 1])
        upper, lower = np.arange(1, _HALF), np.arange(len(INNER) - 1, _HALF, -1)
        gaps = (ring[lower] - ring[upper]) @ down
        crossed = np.minimum(gaps, 0)[:, None] * down / 2
        ring[upper] += crossed
        ring[lower] -= crossed
        right, left = ring[0], ring[_HALF]
        width = float(np.linalg.norm(left - right))
        middle = (left + right) / 2
        return cls(ring, middle, (left - right) / 2, width, float(np.maximum(gaps, 0)[3:6].mean()))

    def along(self, pixels: Float[Array, "p 2"]) -> Float[Array, " p"]:
        """Where pixels lie between the corners: -1 to 1."""
        return (pixels - self.middle) @ self.axis / max(float(self.axis @ self.axis), 1e-6)

    def distances(
        self, pixels: Float[Array, "p 2"]
    ) -> tuple[Float[Array, " p"], Float[Array, " p"], Bool[Array, " p"]]:
        """How far pixels are from the upper and from the lower lip, and which lie between them."""
        start, end = self.ring, np.roll(self.ring, -1, axis=0)
        way = end - start
        x = pixels[:, :1] - start[:, 0]
        y = pixels[:, 1:] - start[:, 1]
        share = (x * way[:, 0] + y * way[:, 1]) / np.maximum(np.square(way).sum(axis=1), 1e-9)
        share = np.clip(share, 0, 1)
        squares = (x - share * way[:, 0]) ** 2 + (y - share * way[:, 1]) ** 2
        upper, lower = squares[:, :_HALF].min(axis=1), squares[:, _HALF:].min(axis=1)
        # A ray to the right meets the ring an odd number of times from inside.
        meets = (y < 0) != (pixels[:, 1:] < end[:, 1])
        height = np.where(way[:, 1] == 0, 1.0, way[:, 1])
        beyond = x < y * way[:, 0] / height
        return np.sqrt(upper), np.sqrt(lower), (meets & beyond).sum(axis=1) % 2 == 1


def smooth_step(x: Float[Array, "*n"] | float, low: float, high: float) -> Float[Array, "*n"]:
    """0 below `low`, 1 above `high`, smooth between them."""
    share = np.clip((np.asarray(x, np.float64) - low) / (high - low), 0, 1)
    return np.asarray(share * share * (3 - 2 * share))
