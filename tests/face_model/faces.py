"""Coefficients of made-up people and motions, known exactly."""

import functools
from dataclasses import replace

import numpy as np

from mien.face_model.coefficients import Camera, FaceCoefficients
from mien.face_model.known_clips import at_rest, smooth_curves
from mien.face_model.parametric import FaceModel

CAMERA = Camera(focal=3.0, center=(0.5, 0.5), width=256, height=256)
_smooth = functools.partial(smooth_curves, fastest=12.0)


def coefficients(
    model: FaceModel, t: int = 5, seed: int = 0, active: int = 12, identity: float = 1.0
) -> FaceCoefficients:
    """A random person who moves smoothly: `active` expressions at a time, head turns of 20
    degrees, gaze of 10, a metre before the camera.
    """
    random = np.random.default_rng(seed)
    expression = np.zeros((t, len(model.expression_names)))
    chosen = random.choice(len(model.expression_names), active, replace=False)
    expression[:, chosen] = 0.5 * np.clip(_smooth(random, t, active) + 0.4, 0, 1)
    return replace(
        at_rest(model, t, identity * random.normal(size=len(model.identity_axes))),
        expression=expression,
        rotation=np.radians(20) * _smooth(random, t, 3),
        translation=np.array([1.0, -1.0, 100.0]) + 2 * _smooth(random, t, 3),
        eyes=np.radians(10) * _smooth(random, t, 2),
        camera=CAMERA,
    )
