"""FLAME's archive, made up in its layout: pickled numpy, scipy and chumpy arrays."""

import os
import pickle
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from scipy.sparse import csc_matrix
from scipy.spatial.transform import Rotation

from mien.errors import UserError
from mien.face_model.fitting import fit_points
from mien.face_model.flame import flame_model, read_flame
from mien.face_model.parametric import FaceModel
from mien.face_model.points import points_of
from tests.face_model.faces import coefficients
from tests.tools import load_tool


class Ch:
    """As chumpy pickles an array: an object whose state holds it as x."""

    def __init__(self, x: np.ndarray) -> None:
        self.x = x

    def __getstate__(self) -> dict:
        return {"x": self.x, "_dirty_vars": None}


class Reduced:
    def __reduce__(self):
        return os.mkdir, ("/should/never/run",)


@pytest.fixture(scope="module")
def head() -> dict[str, np.ndarray]:
    """The shipped model's face as FLAME has its own: metres, y up, five joints."""
    model, random = FaceModel.load(), np.random.default_rng(0)
    turn = np.array([1, -1, -1]) / 100
    n = len(model.neutral)
    template = model.neutral * turn
    weights = np.zeros((n, 5))
    jaw = np.linalg.norm(model.expression_axes[model.expression_names.index("jawOpen")], axis=1)
    weights[:, 2] = np.clip(jaw / np.quantile(jaw, 0.98), 0, 1)
    for joint, eye in ((3, "eye_left"), (4, "eye_right")):
        weights[model.vertices_of(eye)] = 0
        weights[model.vertices_of(eye), joint] = 1
    weights[:, 0] = 1 - weights.sum(axis=1)
    joints = np.zeros((5, n))
    joints[[0, 1]] = 1 / n
    joints[2, np.flatnonzero(np.abs(template[:, 2]) < 0.01)] = 1
    joints[2] /= joints[2].sum()
    for joint, eye in ((3, "eye_left"), (4, "eye_right")):
        joints[joint, model.vertices_of(eye)] = 1 / len(model.vertices_of(eye))
    shapes = np.zeros((n, 3, 302))
    shapes[:, :, :8] = (model.identity_axes[:8] * turn).transpose(1, 2, 0)
    shapes[:, :, 300:] = random.normal(0, 1e-3, (n, 3, 2))
    return {
        "v_template": template,
        "f": model.triangles.astype(np.uint32),
        "shapedirs": shapes,
        "posedirs": random.normal(0, 1e-5, (n, 3, 36)),
        "J_regressor": joints,
        "weights": weights,
    }


def write(path: Path, head: dict, **other: object) -> Path:
    """Pickled as FLAME's is: protocol 2, chumpy for directions, a sparse matrix for joints."""
    modules = {"chumpy": ModuleType("chumpy"), "chumpy.ch": ModuleType("chumpy.ch")}
    Ch.__module__, modules["chumpy.ch"].Ch = "chumpy.ch", Ch  # pyright: ignore
    kept = {
        name: Ch(value) if name in ("shapedirs", "posedirs") else value
        for name, value in head.items()
    }
    kept["J_regressor"] = csc_matrix(head["J_regressor"])
    sys.modules.update(modules)
    try:
        path.write_bytes(pickle.dumps({**kept, "bs_type": "lrotmin", **other}, protocol=2))
    finally:
        for name in modules:
            del sys.modules[name]
    return path


def test_arrays_of_every_kind_are_read(tmp_path, head):
    found = read_flame(write(tmp_path / "flame.pkl", head))
    assert set(found) == set(head)
    for name, value in head.items():
        np.testing.assert_allclose(found[name], value, atol=1e-12, err_msg=name)


def test_code_in_the_archive_does_not_run(tmp_path, head):
    path = write(tmp_path / "flame.pkl", head, extra=Reduced())
    with pytest.raises(
        UserError, match=r"flame.pkl is not FLAME's archive \(it asks for posix.mkdir"
    ):
        read_flame(path)
    assert not Path("/should").exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"text",
        b"a",
        b"0.",
        b"\x80\x04q\x00.",
        pickle.dumps({"v_template": 1}),
        pickle.dumps(3),
    ],
)
def test_other_files_are_named(tmp_path, content):
    (tmp_path / "other.pkl").write_bytes(content)
    with pytest.raises(UserError, match="other.pkl"):
        read_flame(tmp_path / "other.pkl")


def test_the_jaw_opens_and_turns_to_its_sides(head):
    model = flame_model(head, 8, 2)
    chin = int(head["weights"][:, 2].argmax())
    moves = dict(zip(model.expression_names, model.expression_axes[:, chin], strict=True))
    assert moves["jawOpen"][1] > 0.5, "down"
    assert moves["jawLeft"][0] > 0.1 > -0.1 > moves["jawRight"][0], "the person's left is +x"
    still = head["weights"][:, 2] == 0
    assert np.abs(model.expression_axes[0][still]).max() < 0.01


def test_a_jaw_without_correctives_turns_rigidly(head):
    model = flame_model({**head, "posedirs": head["posedirs"] * 0}, 8, 2)
    jaw = head["weights"][:, 2] == 1
    joint = head["J_regressor"][2] @ head["v_template"]
    turned = Rotation.from_rotvec((0.4, 0, 0)).apply(head["v_template"][jaw] - joint) + joint
    found = model.neutral[jaw] + model.expression_axes[0][jaw]
    np.testing.assert_allclose(found, turned * [100, -100, -100], atol=1e-3)


def test_too_many_axes_are_refused(head):
    with pytest.raises(UserError, match="8 and 3 are too many"):
        flame_model(head, 8, 3)


def test_the_tool_writes_a_model_that_can_be_fitted(tmp_path, head, capsys):
    shipped, random = FaceModel.load(), np.random.default_rng(1)
    assert shipped.points is not None
    where = {tuple(sorted(t)): n for n, t in enumerate(shipped.triangles.tolist())}
    marks = np.sort(random.choice(468, 150, replace=False))
    faces = np.array([where[tuple(sorted(c))] for c in shipped.points.corners[marks].tolist()])
    order = [
        [list(corner).index(v) for v in shipped.triangles[face]]
        for corner, face in zip(shipped.points.corners[marks].tolist(), faces, strict=True)
    ]
    weights = np.take_along_axis(shipped.points.weights[marks], np.array(order), axis=1)
    embedding = tmp_path / "points.npz"
    np.savez(embedding, landmark_indices=marks, lmk_face_idx=faces, lmk_b_coords=weights)
    archive, output = write(tmp_path / "flame.pkl", head), tmp_path / "flame.npz"
    tool = load_tool("convert_flame")
    given = [archive, output, "--points", embedding, "--shapes", "8", "--expressions", "2"]
    assert tool.main(list(map(str, given))) == 0
    assert "8 identity and 5 expression axes" in capsys.readouterr().out
    model = FaceModel.load(output)
    true = coefficients(model, t=6, active=1, identity=0.5)
    found = fit_points(points_of(model, true), (256, 256), 25.0, model, focal=true.camera.focal)
    turn = Rotation.from_rotvec(true.rotation) * Rotation.from_rotvec(found.rotation).inv()
    assert np.degrees(turn.magnitude()).mean() < 1
    assert found.identity.shape == true.identity.shape == (8,)
