"""ARKit curves: from coefficients and back, as Live Link Face's CSV, at any rate."""

import csv
from dataclasses import replace

import numpy as np
import pytest

from mien.errors import UserError
from mien.face_model.arkit import CURVES, ArkitCurves, coefficients_of, curves_of
from mien.face_model.live_link import load_curves, save_curves
from mien.mesh.motion import from_vectors
from mien.mesh.neutral import lip_gaps
from mien.session.curves import mesh_vectors
from tests.face_model.faces import CAMERA, coefficients


def curves(t: int = 40, fps: float = 25.0) -> ArkitCurves:
    random = np.random.default_rng(0)
    return ArkitCurves(
        random.uniform(0, 1, (t, len(CURVES))),
        random.uniform(-0.5, 0.5, (t, 3)),
        random.uniform(-0.3, 0.3, (t, 3)) * (1, 1, 0),
        fps,
    )


def one(name: str, value: float = 1.0) -> ArkitCurves:
    """A single frame with one curve."""
    none = ArkitCurves(np.zeros((1, len(CURVES))), np.zeros((1, 3)), np.zeros((1, 3)), 25.0)
    none.values[0, CURVES.index(name)] = value
    return none


def test_there_are_arkits_52_curves_and_all_but_the_tongue_are_the_models(model):
    assert len(set(CURVES)) == 52
    names = set(model.expression_names)
    for curve in set(CURVES) - {"tongueOut"}:
        assert curve in names or {f"{curve}Left", f"{curve}Right"} <= names, curve


def test_curves_of_a_fit_become_its_coefficients_again(model):
    true = coefficients(model, t=12)
    expression = true.expression.copy()
    for name in ("browInnerUp", "cheekPuff"):  # once in ARKit
        left, right = (model.expression_names.index(f"{name}{side}") for side in ("Left", "Right"))
        expression[:, right] = expression[:, left]
    for n, name in enumerate(model.expression_names):
        expression[:, n] *= not name.startswith("cheekRaiser")
    true = replace(true, expression=expression)
    again = coefficients_of(model, curves_of(model, true), CAMERA, 100.0)
    np.testing.assert_allclose(again.expression, true.expression, atol=1e-9)
    np.testing.assert_allclose(again.rotation, true.rotation, atol=1e-9)
    np.testing.assert_allclose(again.eyes, true.eyes, atol=1e-9)


def test_angles_are_arkits(model):
    """Yaw to the picture's right, pitch down, roll with the left ear down: about y, x and z."""
    still = coefficients(model, t=1)
    for axis, column, sign in ((1, 0, -1), (0, 1, 1), (2, 2, -1)):
        turn = np.zeros((1, 3))
        turn[0, axis] = 0.2
        head = curves_of(model, replace(still, rotation=turn)).head[0]
        wanted = np.zeros(3)
        wanted[column] = 0.2 * sign
        np.testing.assert_allclose(head, wanted, atol=1e-9)
    nose = model.neutral[:, 2].argmin()
    right = coefficients_of(
        model, replace(one("jawOpen", 0), head=np.array([[0.3, 0, 0]])), CAMERA, 100.0
    )
    assert model.in_camera(right)[0, nose, 0] > model.neutral[nose, 0] + 1


def test_lost_frames_are_filled_in(model):
    true = coefficients(model, t=3)
    seen = replace(true, frames=np.array([2, 3, 5]))
    found = curves_of(model, seen)
    assert len(found) == 4
    np.testing.assert_allclose(found.values[2], (found.values[1] + found.values[3]) / 2)


@pytest.mark.parametrize("suffix", ["csv", "npz"])
def test_a_file_brings_the_curves_back(tmp_path, suffix):
    kept = curves()
    save_curves(kept, tmp_path / f"a.{suffix}")
    found = load_curves(tmp_path / f"a.{suffix}")
    assert found.fps == 25
    for name in ("values", "head", "eyes"):
        np.testing.assert_allclose(getattr(found, name), getattr(kept, name), atol=1e-8)


def test_the_csv_is_live_link_faces(tmp_path):
    save_curves(curves(t=130, fps=60.0), tmp_path / "a.csv")
    with (tmp_path / "a.csv").open(newline="") as file:
        head, *rows = csv.reader(file)
    assert head[:3] == ["Timecode", "BlendShapeCount", "EyeBlinkLeft"]
    assert head[-9:-6] == ["HeadYaw", "HeadPitch", "HeadRoll"] and head[-1] == "RightEyeRoll"
    assert len(head) == 63 and all(len(row) == 63 and row[1] == "61" for row in rows)
    assert [rows[n][0] for n in (0, 59, 60, 129)] == [
        *("00:00:00:00.000", "00:00:00:59.000", "00:00:01:00.000", "00:00:02:09.000")
    ]
    assert load_curves(tmp_path / "a.csv").fps == 60


def test_columns_are_found_by_name(tmp_path):
    rows = ["HeadYaw,JawOpen,Timecode", "0.1,0.5,11:02:03:23.500", "0.2,0.75,11:02:04:00.100"]
    (tmp_path / "a.csv").write_text("\n".join(rows))
    found = load_curves(tmp_path / "a.csv")
    np.testing.assert_allclose(found.values[:, CURVES.index("jawOpen")], [0.5, 0.75])
    np.testing.assert_allclose(found.head, [[0.1, 0, 0], [0.2, 0, 0]])
    assert found.fps == 24


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "is empty"),
        ("a,b\n1,2\n", "no column is named after a curve"),
        ("Timecode,JawOpen\n00:00:00:00.000,much\n", "row 1, JawOpen: 'much' instead of a number"),
        ("JawOpen,HeadYaw\n1,1\n1\n", "row 2, HeadYaw: nothing instead of a number"),
        ("Timecode,JawOpen\n", "has no rows"),
        ("Timecode,JawOpen\n00:00:00:00.000,nan\n", "not finite"),
    ],
)
def test_a_csv_without_curves_is_refused(tmp_path, content, words):
    (tmp_path / "a.csv").write_text(content)
    with pytest.raises(UserError, match=f"a.csv.*{words}"):
        load_curves(tmp_path / "a.csv")


def test_an_npz_without_curves_is_refused(tmp_path, model):
    path = tmp_path / "a.npz"
    coefficients(model).save(path)
    with pytest.raises(UserError, match="no array names; mien export-motion converts"):
        load_curves(path)
    for content in (b"\0\1", path.read_bytes()[:-40]):
        path.write_bytes(content)
        with pytest.raises(UserError, match="a.npz.*damaged, or neither"):
            load_curves(path)


def test_another_rate_keeps_the_motion_and_its_length():
    slow = curves(t=26)
    fast = slow.at_rate(60)
    assert len(fast) == 61 and fast.fps == 60
    np.testing.assert_allclose(fast.values[::12], slow.values[::5])
    np.testing.assert_allclose(fast.at_rate(25).values[::5], slow.values[::5], atol=1e-12)
    assert len(slow.at_rate(25)) == 26
    scaled = slow.scaled(0.5, 0.0)
    np.testing.assert_allclose(scaled.values, slow.values / 2)
    assert not scaled.head.any()


def test_rest_is_no_motion_and_an_open_jaw_opens_the_lips(model):
    assert np.abs(mesh_vectors(one("jawOpen", 0.0), model)).max() < 0.03
    opened, closed = (from_vectors(mesh_vectors(one("jawOpen", v), model)) for v in (0.6, 0.0))
    gaps = lip_gaps(opened.offsets) - lip_gaps(closed.offsets)
    assert gaps[0, 4] > 0.15
    np.testing.assert_allclose(opened.turn, 0, atol=0.03)


def test_a_smile_moves_the_corner_that_it_names(model):
    left = from_vectors(mesh_vectors(one("mouthSmileLeft"), model)).offsets[0]
    assert left[291, 1] < -0.05 and abs(left[61, 1]) < 0.02


def test_head_angles_turn_the_head(model):
    turned = from_vectors(
        mesh_vectors(replace(one("jawOpen", 0.0), head=np.array([[0.3, 0, 0]])), model)
    )
    np.testing.assert_allclose(turned.turn[0], [0, -0.3, 0], atol=0.03)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"text"])
def test_an_npz_that_is_none_is_refused(tmp_path, content):
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(UserError, match=r"a\.npz"):
        load_curves(tmp_path / "a.npz")


@pytest.mark.parametrize("wrong", [{"head": np.zeros((2, 3))}, {"fps": np.float64(0)}])
def test_an_npz_of_other_arrays_is_refused(tmp_path, wrong):
    save_curves(curves(), tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz") as kept:
        arrays = {name: kept[name] for name in kept.files}
    np.savez(tmp_path / "a.npz", **(arrays | wrong))
    with pytest.raises(UserError, match=r"a\.npz contains no ARKit curves"):
        load_curves(tmp_path / "a.npz")


def test_a_truncated_npz_is_refused(tmp_path):
    save_curves(curves(), tmp_path / "a.npz")
    whole = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "a.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"a\.npz contains no ARKit curves"):
        load_curves(tmp_path / "a.npz")
