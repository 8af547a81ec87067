"""Coefficients of made-up people and motions, known exactly."""

import numpy as np

from mien.face_model.coefficients import Camera, FaceCoefficients
from mien.face_model.parametric import FaceModel

CAMERA = Camera(focal=3.0, center=(0.5, 0.5), width=256, height=256)


def smooth(random: np.random.Generator, t: int, n: int, slowest: float = 12.0) -> np.ndarray:
    """Random curves in [-1, 1] without anything faster than `slowest` frames per radian."""
    time = np.arange(t)[:, None, None] / slowest
    speeds, phases = random.uniform(0.3, 1, (n, 3)), random.uniform(0, 2 * np.pi, (n, 3))
    return np.sin(time * speeds + phases).mean(axis=2)


def coefficients(
    model: FaceModel, t: int = 5, seed: int = 0, active: int = 12, identity: float = 1.0
) -> FaceCoefficients:
    """A random person who moves smoothly: `active` expressions at a time, head turns of 20
    degrees, gaze of 10, a metre before the camera.
    """
    random = np.random.default_rng(seed)
    expression = np.zeros((t, len(model.expression_names)))
    chosen = random.choice(len(model.expression_names), active, replace=False)
    expression[:, chosen] = 0.5 * np.clip(smooth(random, t, active) + 0.4, 0, 1)
    return FaceCoefficients(
        identity=identity * random.normal(size=len(model.identity_axes)),
        expression=expression,
        rotation=np.radians(20) * smooth(random, t, 3),
        translation=np.array([1.0, -1.0, 100.0]) + 2 * smooth(random, t, 3),
        eyes=np.radians(10) * smooth(random, t, 2),
        scale=1.0,
        camera=CAMERA,
        frames=np.arange(t),
        fps=25.0,
        expression_names=model.expression_names,
    )
