"""Condition maps: the face model's vertices drawn as pictures of positions and expression offsets.

In the paper (Loki) the diffusion model sees the driver only through such maps. The same function
draws them for training and for use: what is drawn is a fixed box of the clip's picture. Neck and
shoulders, which do not turn with the head, are left out; back faces are culled, so that an open
mouth shows teeth, tongue and the cavity behind them.

What is drawn as positions: Loki's repository is described as encoding the posed mesh's normalised
device coordinates ("projected"). CAP4D, whose conditioning it takes over (the same 42 + 3 channels,
the same deviation), draws the template's coordinates ("neutral"): they say which place of the face
a pixel shows, while projected x and y only repeat where the pixel is. Both are here. Culling and
leaving out the neck are CAP4D's; one fixed box for training and use is ours.
Axes: t frames, n vertices, k triangles, h w space.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Float32, Int

from mien.face.geometry import Array, Box
from mien.face_model.coefficients import FaceCoefficients
from mien.face_model.parametric import OFFSET_DEVIATION, FaceModel
from mien.ops.rasterize import rasterize_perspective

# What the position channels are: where a point of the mesh is ("projected"), or which point of
# the face it is ("neutral"); see `draw_maps`.
Positions = Literal["projected", "neutral"]
_NECK_CUT = 2.0  # distances of the eyes below them: the head is drawn down to there
_MARGIN = 0.2  # of `head_box`
_FEATURES = ("mouthPucker", "eyeBlinkLeft", "eyeBlinkRight")  # expressions of `mouth_and_eyes`


@dataclass(frozen=True)
class FaceMaps:
    """Maps of t frames, all 0 where no triangle is drawn (`covered` is False there).

    `offsets` are what expression and gaze add to the neutral face, in model axes, divided by
    OFFSET_DEVIATION. `positions` are as `draw_maps` says.
    """

    positions: Float32[Array, "t 3 h w"]
    offsets: Float32[Array, "t 3 h w"]
    covered: Bool[Array, "t h w"]


def draw_maps(
    model: FaceModel,
    coefficients: FaceCoefficients,
    box: Box,
    size: int,
    positions: Positions = "projected",
) -> FaceMaps:
    """Draw what `box` (x0 y0 x1 y1 in pixels of the clip's picture) shows on size x size pixels.

    Positions are either normalised device coordinates of the posed mesh: x (right) and y (down)
    from -1 to 1 across the box, and z (away from the camera) from the head's origin, in the same
    unit at the depth of that origin; or the coordinates of the mean neutral head at the same
    vertices, from -1 to 1, whatever the pose.
    """
    projected = model.project(coefficients).astype(np.float64)
    x0, y0, x1, y1 = box
    across = (projected[..., 0] - x0) / (x1 - x0)
    down = (projected[..., 1] - y0) / (y1 - y0)
    places = np.stack([across * size, down * size, projected[..., 2]], axis=-1)
    if positions == "projected":
        shown = _device_coordinates(coefficients, across, down, projected[..., 2], x1 - x0)
    else:
        shown = np.broadcast_to(_head_coordinates(model), projected.shape)
    offsets = model.offsets(coefficients.expression, coefficients.eyes) / OFFSET_DEVIATION
    height = np.broadcast_to(_above_neck_cut(model)[:, None], (*projected.shape[:2], 1))
    values = np.concatenate([shown, offsets, height], axis=-1)
    drawn = rasterize_perspective(places, head_triangles(model), values, size, size, "front")
    covered = drawn.covered & (drawn.values[:, 6] >= 0)
    kept = drawn.values[:, :6] * covered[:, None]
    return FaceMaps(kept[:, :3], kept[:, 3:], covered)


def mouth_and_eyes(model: FaceModel) -> tuple[Float32[Array, "k 3"], Float32[Array, "k 3"]]:
    """Middles and deviations, in neutral positions, of what moves when the lips pucker and when
    each eye blinks.
    """
    places = _head_coordinates(model)
    moved = [model.expression_names.index(name) for name in _FEATURES]
    motion = np.square(model.expression_axes[moved]).sum(axis=-1, keepdims=True)
    share = motion / motion.sum(axis=1, keepdims=True)
    middles = (share * places).sum(axis=1)
    spread = (share * np.square(places - middles[:, None])).sum(axis=1)
    return middles, np.sqrt(spread)


def head_triangles(model: FaceModel) -> Int[Array, "k 3"]:
    """The triangles of the model that are not wholly below the cut through the neck."""
    return model.triangles[(_above_neck_cut(model)[model.triangles] >= 0).any(axis=1)]


def head_box(model: FaceModel, coefficients: FaceCoefficients) -> Box:
    """The square around the head in all frames of the coefficients, in pixels, with a margin of a
    tenth of its side on each side (CAP4D's crop).
    """
    head = _above_neck_cut(model) >= 0
    places = model.project(coefficients)[:, head, :2].reshape(-1, 2)
    low, high = places.min(axis=0), places.max(axis=0)
    half = (1 + _MARGIN) * float((high - low).max()) / 2
    x, y = ((low + high) / 2).tolist()
    return (x - half, y - half, x + half, y + half)


def _device_coordinates(
    coefficients: FaceCoefficients,
    across: Float[Array, "t n"],
    down: Float[Array, "t n"],
    depth: Float[Array, "t n"],
    side: float,
) -> Float[Array, "t n 3"]:
    camera = coefficients.camera
    origin = coefficients.translation[:, 2:]
    unit = 2 * camera.focal * max(camera.width, camera.height) / (origin * side)
    return np.stack([2 * across - 1, 2 * down - 1, (depth - origin) * unit], axis=-1)


def _above_neck_cut(model: FaceModel) -> Float[Array, " n"]:
    """How far vertices of the neutral mean head are above the cut through the neck, or below it
    (negative).
    """
    left, right = model.eye_centers
    lowest = (left[1] + right[1]) / 2 + _NECK_CUT * np.linalg.norm(left - right)
    return lowest - model.neutral[:, 1]


def _head_coordinates(model: FaceModel) -> Float32[Array, "n 3"]:
    head = model.neutral[_above_neck_cut(model) >= 0]
    low, high = head.min(axis=0), head.max(axis=0)
    return (2 * model.neutral - (low + high)) / (high - low).max()
