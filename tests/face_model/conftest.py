"""The face model that ships, for all tests of this folder."""

import pytest

from mien.face_model.parametric import FaceModel


@pytest.fixture(scope="session")
def model() -> FaceModel:
    return FaceModel.load()
