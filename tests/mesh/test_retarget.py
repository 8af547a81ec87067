"""A motion is taken by another face as it was made: nothing added, lips in proportion."""

import numpy as np
import pytest

from mien.mesh.alignment import eye_distance, head_pose
from mien.mesh.motion import MeshMotion, as_vectors, from_vectors, read_motion
from mien.mesh.neutral import lip_gaps, mouth_width, neutral, rest_of
from mien.mesh.retarget import PortraitMesh, retarget, retargeted_guides
from mien.mesh.topology import LIDS, border_of, mean_face, topology, with_surroundings
from mien.ops.rasterize import rasterize
from tests.mesh.faces import SIZE, in_picture, open_mouth, person, smile

GAPS = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3)


def talk(face: np.ndarray) -> np.ndarray:
    return np.stack([in_picture(open_mouth(face, gap)) for gap in GAPS])


def still(frames: int = 1) -> MeshMotion:
    return from_vectors(np.zeros((frames, 468 * 3 + 6)))


def gap_of(points: np.ndarray) -> float:
    return float(lip_gaps(head_pose(points).to_head(points)[None])[0, 4])


def test_heads_are_found_where_they_were_put():
    face = mean_face()
    points = in_picture(face, (0.1, -0.2, 0.05), 70.0)
    pose = head_pose(points)
    assert pose.scale == pytest.approx(70, rel=1e-6)
    np.testing.assert_allclose(pose.to_head(points), face, atol=1e-9)
    np.testing.assert_allclose(pose.to_picture(pose.to_head(points)), points, atol=1e-9)
    assert eye_distance(face) == pytest.approx(1, abs=1e-6)


def test_rest_is_where_lips_are_nearest():
    heads = np.stack([open_mouth(mean_face(), gap) for gap in (0.3, 0.0, 0.2, 0.0, 0.1, 0.0, 0.0)])
    np.testing.assert_allclose(rest_of(heads), mean_face(), atol=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_a_driver_who_is_the_portrait_changes_nothing(seed: int):
    points = in_picture(smile(person(seed)), (0.1, 0.2, 0.0))
    moved = retarget(PortraitMesh.of(points), read_motion(points[None]))
    np.testing.assert_allclose(moved[0], points, atol=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_closed_lips_close_on_every_portrait_smiling_ones_too(seed: int):
    for face in (person(seed), smile(person(seed)), open_mouth(person(seed), 0.2)):
        moved = retarget(PortraitMesh.of(in_picture(face)), still())[0]
        assert abs(gap_of(moved)) < 0.01


def test_a_smile_is_relaxed_and_a_neutral_face_left_alone():
    face, smiling = mean_face(), smile(mean_face())
    np.testing.assert_allclose(neutral(neutral(face)), neutral(face), atol=0.01)
    before, after = (mouth_width(f) - mouth_width(face) for f in (smiling, neutral(smiling)))
    assert 0 < after < 0.4 * before


@pytest.mark.parametrize(("driver", "taker"), [(0, 1), (1, 2), (2, 0)])
def test_lip_gaps_are_given_in_proportion(driver: int, taker: int):
    motion = read_motion(talk(person(driver)))
    moved = retarget(PortraitMesh.of(in_picture(person(taker))), motion)
    given = np.array([gap_of(points) for points in talk(person(driver))])
    taken = np.array([gap_of(points) for points in moved])
    slope, start = np.polyfit(given, taken, 1)
    assert np.corrcoef(given, taken)[0, 1] > 0.999
    ratio = mouth_width(person(taker)) / mouth_width(person(driver))
    assert slope == pytest.approx(ratio, rel=0.15)
    assert abs(start) < 0.03


def test_eyelids_move_alone():
    face = mean_face()
    blinking = face.copy()
    for upper, lower in LIDS:
        blinking[list(upper)] += 0.8 * (face[list(lower)] - face[list(upper)])
    motion = read_motion(np.stack([in_picture(face)] * 4 + [in_picture(blinking)]))
    moved = retarget(PortraitMesh.of(in_picture(person(1))), motion)
    change = np.abs(moved[4] - moved[0]).max(axis=1)
    lids = [point for pair in LIDS for lid in pair for point in lid]
    assert change[lids].max() > 2
    change[lids] = 0
    assert change.max() < 1e-6


@pytest.mark.parametrize("turn", [(0, 0.35, 0), (0, -0.35, 0), (0.35, 0, 0), (-0.35, 0, 0)])
def test_a_head_that_turns_by_20_degrees_keeps_its_face(turn):
    motion = still()
    motion.turn[0] = turn
    portrait = PortraitMesh.of(in_picture(person(0)))
    moved = retarget(portrait, motion)[0]
    found = head_pose(moved).rotation @ portrait.pose.rotation.T
    assert np.degrees(np.arccos((np.trace(found) - 1) / 2)) == pytest.approx(20.05, abs=0.1)
    # Nothing shows through the face: its front is drawn nearest wherever it is drawn.
    vertices = with_surroundings(moved, border_of(0.0, 0.0, float(SIZE)))
    raster = rasterize(vertices, topology().triangles, vertices[:, :2], SIZE)
    nose = moved[4, :2].astype(int)
    around = raster.triangles[nose[1] - 6 : nose[1] + 7, nose[0] - 6 : nose[0] + 7]
    assert topology().skin[around].all()


def test_motion_comes_back_from_its_numbers():
    motion = read_motion(talk(person(3)))
    back = from_vectors(as_vectors(motion))
    for name in ("offsets", "turn", "shift", "zoom"):
        np.testing.assert_array_equal(getattr(back, name), getattr(motion, name))


def test_a_guide_for_each_frame():
    points = in_picture(mean_face())
    guide = retargeted_guides(PortraitMesh.of(points), read_motion(talk(mean_face())), SIZE)
    assert guide.displacement.shape == (len(GAPS), SIZE, SIZE, 2)
    assert guide.mouth.sum(dim=(1, 2))[-1] > guide.mouth.sum(dim=(1, 2))[0]


def test_contrast_brings_lips_that_nearly_touch_nearer_and_leaves_wide_ones():
    portrait = PortraitMesh.of(in_picture(person(1)))

    def gap(opened: float, contrast: float) -> float:
        offsets = open_mouth(np.zeros((468, 3)), opened)
        return float(lip_gaps(portrait.target(offsets, contrast=contrast)[None])[0, 4])

    assert gap(0.0, 1.35) == pytest.approx(gap(0.0, 1.0), abs=1e-6)
    assert gap(0.05, 1.35) < 0.7 * gap(0.05, 1.0)
    assert gap(0.4, 1.35) == pytest.approx(gap(0.4, 1.0), rel=0.02)
