"""The face model: linear in identity and expression, rigid in pose, exact in its camera."""

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from mien.errors import UserError
from mien.face_model.arkit import curves_of
from mien.face_model.coefficients import Camera, FaceCoefficients
from mien.face_model.face_reduction import reduced_model
from mien.face_model.parametric import EYES, FACE_MODEL, FaceModel
from tests.face_model.faces import coefficients


def test_the_shipped_model_is_small_and_has_its_parts(model):
    assert FACE_MODEL.stat().st_size <= 6e6
    assert len(model.identity_axes) == 100 and len(model.expression_names) == 55
    for name in ("face", "head_neck", "mouth_socket", "gums_tongue", "teeth", *EYES):
        assert len(model.vertices_of(name)) > 100, name
    assert set(np.unique(model.triangles)) == set(range(len(model.neutral)))


def test_the_person_looks_at_the_camera_upright(model):
    eyes, teeth = (
        model.neutral[model.vertices_of(name)].mean(axis=0) for name in (EYES[0], "teeth")
    )
    assert eyes[1] < teeth[1], "y is down"
    assert eyes[0] > 1, "a left eye is on the picture's right"
    face, head = (
        model.neutral[model.vertices_of(name)].mean(axis=0) for name in ("face", "head_neck")
    )
    assert face[2] < head[2], "z is away from the viewer"


def test_triangles_face_outwards(model):
    """A skin triangle's normal (right hand) has one sign towards the camera for all in front."""
    skin = model.triangles[np.isin(model.triangles, model.vertices_of("face")).all(axis=1)]
    a, b, c = (model.neutral[skin[:, i]] for i in range(3))
    normal = np.cross(b - a, c - a)
    area = np.linalg.norm(normal, axis=1)
    assert (area * (normal[:, 2] < 0)).sum() > 0.75 * area.sum()


def test_axes_move_the_side_that_they_name(model):
    for name in model.expression_names:
        if name.endswith(("Left", "Right")) and name not in (
            "mouthLeft",
            "mouthRight",
            "jawLeft",
            "jawRight",
        ):
            moved = np.linalg.norm(
                model.expression_axes[model.expression_names.index(name)], axis=1
            )
            middle = (moved * model.neutral[:, 0]).sum() / moved.sum()
            assert middle > 0 if name.endswith("Left") else middle < 0, name


def test_offsets_are_linear_in_the_expression_and_know_no_person(model):
    here = coefficients(model)
    still = np.zeros_like(here.eyes)
    twice = model.offsets(here.expression * 2, still)
    np.testing.assert_allclose(twice, 2 * model.offsets(here.expression, still), atol=1e-5)
    someone = coefficients(model, seed=1)
    for t, moved in enumerate(model.offsets(here.expression, here.eyes)):
        alone = replace(here, rotation=here.rotation * 0, translation=here.translation * 0)
        for identity in (here.identity, someone.identity):
            posed = model.in_camera(replace(alone, identity=identity))[t]
            np.testing.assert_allclose(posed - model.shape(identity), moved, atol=2e-5)


def test_eyes_turn_rigidly_to_where_they_look(model):
    eyes = np.array([[0.3, 0.0], [0.0, 0.3], [-0.2, 0.1]])
    turned = model.neutral + model.offsets(np.zeros((3, len(model.expression_names))), eyes)
    for name, center in zip(EYES, model.eye_centers, strict=True):
        ball = model.vertices_of(name)
        arms = model.neutral[ball] - center
        front = ball[arms[:, 2].argmin()]
        moved = turned[:, ball] - center
        length = np.linalg.norm(arms, axis=1)
        np.testing.assert_allclose(
            np.linalg.norm(moved, axis=2), length[None].repeat(3, 0), atol=1e-4
        )
        x, y, _ = (turned[:, front] - model.neutral[front]).T
        assert x[0] > 0.2 and abs(y[0]) < 0.1, "yaw is to the picture's right"
        assert y[1] < -0.2 and abs(x[1]) < 0.1, "pitch is up"
        assert x[2] < -0.1 and y[2] < 0
    skin = model.vertices_of("face")
    np.testing.assert_array_equal(
        turned[:, skin], np.broadcast_to(model.neutral[skin], (3, *model.neutral[skin].shape))
    )


def test_the_camera_is_a_pinhole(model):
    here = coefficients(model)
    camera = Camera(focal=2.0, center=(0.4, 0.6), width=320, height=200)
    flat = model.project(replace(here, camera=camera))
    places = model.in_camera(here)
    np.testing.assert_allclose(flat[..., 2], places[..., 2])
    assert (flat[..., 2] > 0).all()
    np.testing.assert_allclose(flat[..., 0], 128 + 640 * places[..., 0] / places[..., 2], rtol=1e-4)
    np.testing.assert_allclose(flat[..., 1], 120 + 640 * places[..., 1] / places[..., 2], rtol=1e-4)


def test_the_pose_is_rigid_and_scaled(model):
    here = coefficients(model, t=2)
    rest = replace(here, rotation=here.rotation * 0, translation=here.translation * 0)
    wanted = 1.3 * Rotation.from_rotvec(here.rotation[1]).apply(model.in_camera(rest)[1])
    found = model.in_camera(replace(here, scale=1.3))[1]
    np.testing.assert_allclose(found, wanted + here.translation[1], atol=2e-4)


def test_substitution_changes_the_person_and_nothing_else(model):
    driver, portrait = coefficients(model), coefficients(model, seed=1)
    portrait = replace(portrait, scale=1.1)
    mixed = driver.with_identity_of(portrait)
    assert mixed.scale == 1.1
    np.testing.assert_array_equal(mixed.identity, portrait.identity)
    for name in ("expression", "rotation", "translation", "eyes", "frames"):
        np.testing.assert_array_equal(getattr(mixed, name), getattr(driver, name))


def test_coefficients_come_back_from_a_file(model, tmp_path):
    here = replace(coefficients(model), frames=np.array([0, 1, 3, 4, 9]), fps=29.97)
    here.save(tmp_path / "clip.npz")
    again = FaceCoefficients.load(tmp_path / "clip.npz")
    for field in fields(here):
        np.testing.assert_array_equal(getattr(again, field.name), getattr(here, field.name))
    assert [file.name for file in tmp_path.iterdir()] == ["clip.npz"]


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x03\x04 cut off"])
def test_damaged_coefficients_are_named(tmp_path, content):
    path = tmp_path / "clip.npz"
    path.write_bytes(content)
    with pytest.raises(UserError, match="clip.npz"):
        FaceCoefficients.load(path)


def test_coefficients_that_are_not_finite_or_not_whole_are_refused(model, tmp_path):
    here, path = coefficients(model), tmp_path / "clip.npz"
    replace(here, rotation=here.rotation * np.nan).save(path)
    with pytest.raises(UserError, match="rotation"):
        FaceCoefficients.load(path)
    np.savez(path, version=1, frames=np.arange(3))
    with pytest.raises(UserError, match="camera_center"):
        FaceCoefficients.load(path)


def test_coefficients_of_another_face_model_are_refused(model, tmp_path):
    """As ICT's on FLAME: other names, or another number where an older file has no names."""
    own = coefficients(model)
    names = tuple(f"expression{n:03d}" for n in range(len(own.expression_names)))
    for refuse in (model.project, lambda other: curves_of(model, other)):
        with pytest.raises(UserError, match=r"\(expression000 \.\.\. .*fit again"):
            refuse(replace(own, expression_names=names))
    with pytest.raises(UserError, match="40 expressions, this face model has 55 others"):
        model.project(replace(own, expression=own.expression[:, :40], expression_names=()))

    path = tmp_path / "older.npz"
    replace(own, expression_names=()).save(path)
    np.testing.assert_array_equal(model.project(FaceCoefficients.load(path)), model.project(own))
    with np.load(path) as kept:
        np.savez(path, **{**kept, "expression_names": np.array(["jawOpen"])})
    with pytest.raises(UserError, match="1 names of 55 expressions"):
        FaceCoefficients.load(path)


def test_another_file_is_no_face_model(tmp_path):
    np.savez(tmp_path / "other.npz", neutral=np.zeros((3, 3)))
    with pytest.raises(UserError, match="other.npz is no face model"):
        FaceModel.load(tmp_path / "other.npz")
    with pytest.raises(UserError, match="missing.npz"):
        FaceModel.load(Path(tmp_path / "missing.npz"))


def test_an_identity_of_another_model_is_refused(model):
    with pytest.raises(UserError, match="101"):
        model.shape(np.zeros(101))
    np.testing.assert_array_equal(model.shape(np.zeros(10)), model.neutral)


def test_saving_errs_by_half_a_step(model, tmp_path):
    model.save(tmp_path / "model.npz")
    again = FaceModel.load(tmp_path / "model.npz")
    largest = np.abs(model.identity_axes).max(axis=(1, 2))
    error = np.abs(again.identity_axes - model.identity_axes).max(axis=(1, 2))
    assert (error <= 0.51 * largest / 127).all()
    np.testing.assert_array_equal(again.triangles, model.triangles)
    np.testing.assert_allclose(again.expression_axes, model.expression_axes, atol=1e-4)


def test_reducing_leaves_vertices_at_their_places(model):
    small = reduced_model(model)
    assert len(small.neutral) <= len(model.neutral)
    assert {tuple(v) for v in small.neutral.tolist()} <= {tuple(v) for v in model.neutral.tolist()}
    for name in ("face", "head_neck"):
        assert len(small.vertices_of(name)) == len(model.vertices_of(name))
