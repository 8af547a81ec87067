"""The weights that ship draw the portrait's person with the expression and pose that are asked."""

from dataclasses import replace

import numpy as np
import pytest
import skimage.data
import torch

from mien.data.clips import to_picture
from mien.data.faces import face_model, face_tracker
from mien.face_model.clips import fit_frames
from mien.face_model.coefficients import FaceCoefficients
from mien.kinds import read_weights
from mien.loki.weights import SHIPPED, face_model_record
from mien.media import to_bytes
from mien.session.loki import FIT_SIZE, LokiPortrait, LokiSession, resized

FRAMES = 6
JAW = face_model().expression_names.index("jawOpen")


@pytest.fixture(scope="module")
def session() -> LokiSession:
    return LokiSession.load(device="cpu")


@pytest.fixture(scope="module")
def portrait(session: LokiSession) -> LokiPortrait:
    return session.prepare(skimage.data.astronaut())


def moved(portrait: LokiPortrait, yaw: float, jaw: float) -> FaceCoefficients:
    """The portrait's face; its rotation and its jaw go from rest to the values asked."""
    ramp = np.linspace(0, 1, FRAMES, dtype=np.float32)
    rows = portrait.faces.at(np.zeros(FRAMES, dtype=int))
    expression, rotation = rows.expression.copy(), rows.rotation.copy()
    expression[:, JAW] += ramp * (jaw - expression[:, JAW])
    rotation[:, 1] += ramp * yaw
    return replace(rows, expression=expression, rotation=rotation, frames=np.arange(FRAMES))


def draw(session: LokiSession, portrait: LokiPortrait, yaw: float, jaw: float) -> np.ndarray:
    drawn = session.draw(portrait, moved(portrait, yaw, jaw))
    return np.concatenate([frames.pictures for frames in drawn])


def seen(frames: np.ndarray) -> FaceCoefficients:
    """The faces that are fitted to drawn frames."""
    large = resized(to_picture(torch.from_numpy(frames)), FIT_SIZE)
    return fit_frames(to_bytes(large), "the drawn frames", face_tracker(), face_model())


def test_the_file_says_what_it_was_trained_on():
    weights = read_weights(SHIPPED)
    assert weights.face_model == face_model_record() and weights.sampling is not None
    assert SHIPPED.stat().st_size < 20e6


def test_a_head_at_rest_looks_like_the_portrait(session: LokiSession, portrait: LokiPortrait):
    frames = to_picture(torch.from_numpy(draw(session, portrait, 0.0, 0.0)))
    assert ((frames - portrait.source) / 2).square().mean() < 10 ** (-22 / 10)  # 22 dB


@pytest.mark.parametrize("yaw", [-0.3, 0.3])
def test_the_head_turns_as_asked(session: LokiSession, portrait: LokiPortrait, yaw: float):
    turned = seen(draw(session, portrait, yaw, 0.0)).rotation
    assert 0.5 < (turned[-1, 1] - turned[0, 1]) / yaw < 1.3
    assert np.abs(turned[-1, [0, 2]] - turned[0, [0, 2]]).max() < 0.12


@pytest.mark.parametrize("temperature, opens", [(1.0, 0.15), (0.3, 0.05)])
def test_the_mouth_opens_as_asked(
    session: LokiSession, portrait: LokiPortrait, temperature: float, opens: float
):
    """With less noise than in training teeth that smile stay nearly shut; those of fifteen other
    people open as before.
    """
    sampling = replace(session.sampling, temperature=temperature)
    drawn = draw(LokiSession(session.net, sampling), portrait, 0.0, 0.9)
    jaw = seen(drawn).expression[:, JAW]
    assert jaw[-1] - jaw[0] > opens
