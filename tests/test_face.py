"""The face is found where it is, however the picture lies, and its points follow it."""

import os

import numpy as np
import pytest
from skimage import data, transform

from mien.errors import UserError
from mien.face import (
    Face,
    FaceLandmarker,
    FaceMesh,
    face_box,
    find_portrait,
    framed,
    lip_gap,
    mouth_box,
    person_mask,
    portrait_box,
    scene_of,
)
from mien.face.geometry import Square, overlap, sample, tiles
from mien.face.mesh import merge_faces

NOSE_TIP, CHIN = 1, 152


@pytest.fixture(scope="module")
def mesh() -> FaceMesh:
    return FaceMesh()


@pytest.fixture(scope="module")
def astronaut() -> np.ndarray:
    return data.astronaut()


def on_canvas(picture: np.ndarray, shape: tuple[int, int], x: int, y: int) -> np.ndarray:
    canvas = np.full((*shape, 3), 90, np.uint8)
    canvas[y : y + picture.shape[0], x : x + picture.shape[1]] = picture
    return canvas


def scaled(picture: np.ndarray, factor: float) -> np.ndarray:
    return (transform.rescale(picture, factor, channel_axis=2, anti_aliasing=True) * 255).astype(
        np.uint8
    )


def landmarks_of(mesh: FaceMesh, picture: np.ndarray) -> np.ndarray:
    return mesh.landmarks(picture, mesh.faces(picture)[0])[0]


def test_loading_the_nets_swaps_no_file_descriptor(monkeypatch: pytest.MonkeyPatch):
    """Of two threads that did, one restored what the other had put there: stderr was lost."""

    def refuse(*descriptors: int) -> None:
        raise AssertionError(f"dup2{descriptors}")

    with monkeypatch.context() as patched:
        patched.setattr(os, "dup2", refuse)
        FaceMesh()


def test_a_square_that_is_the_picture_gives_the_picture():
    picture = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    np.testing.assert_allclose(sample(picture, Square(8.0, 8.0, 16.0), 16), picture, atol=1e-3)


def test_a_square_turned_by_a_quarter_shows_the_picture_turned():
    picture = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    turned = sample(picture, Square(8.0, 8.0, 16.0, np.pi / 2), 16)
    np.testing.assert_allclose(turned, np.rot90(picture), atol=1e-2)


@pytest.mark.parametrize("factor", [2, 5])
def test_a_coarse_look_averages(factor: int):
    rows = np.random.default_rng(0).integers(0, 256, (60, 60, 3), dtype=np.uint8)
    seen = sample(rows, Square(30.0, 30.0, 60.0), 60 // factor)
    assert seen.mean() == pytest.approx(rows.mean(), abs=2)
    assert seen.std() < 0.75 * rows.std()


def test_what_lies_outside_is_black():
    white = np.full((10, 10, 3), 255, np.uint8)
    seen = sample(white, Square(10.0, 5.0, 10.0), 10)
    assert seen[:, :4].min() > 254 and seen[:, 6:].max() == 0
    assert sample(white, Square(500.0, 500.0, 10.0), 10).max() == 0


def test_tiles_cover_the_picture():
    seen = np.zeros((70, 110), bool)
    for tile in tiles(110, 70, 40.0):
        x, y = tile.x - tile.side / 2, tile.y - tile.side / 2
        assert x >= 0 and y >= 0 and x + 40 <= 110 and y + 40 <= 70
        seen[int(y) : int(y) + 40, int(x) : int(x) + 40] = True
    assert seen.all()


def test_overlap_is_intersection_over_union():
    box = (0.0, 0.0, 2.0, 2.0)
    assert overlap(box, (1.0, 0.0, 3.0, 2.0)) == pytest.approx(1 / 3)
    assert overlap(box, (2.0, 0.0, 3.0, 2.0)) == 0
    assert overlap(box, box) == 1


def test_faces_that_overlap_become_their_weighted_mean():
    points = np.zeros((6, 2))
    faces = [
        Face((0.0, 0.0, 10.0, 10.0), 0.9, points),
        Face((1.0, 0.0, 11.0, 10.0), 0.3, points + 4),
        Face((50.0, 50.0, 60.0, 60.0), 0.5, points),
    ]
    one, other = merge_faces(faces)
    assert one.box == pytest.approx((0.25, 0, 10.25, 10)) and one.score == 0.9
    np.testing.assert_allclose(one.points, 1)
    assert other.box == (50, 50, 60, 60)


def test_the_astronaut_is_found_and_her_points_lie_where_they_are_seen(mesh, astronaut):
    (face,) = mesh.faces(astronaut)
    points, present = mesh.landmarks(astronaut, face)
    assert face.score > 0.8 and present > 0.9
    assert points[NOSE_TIP, :2] == pytest.approx((227, 126), abs=5)  # read off the picture
    x0, y0, x1, y1 = mouth_box(points)
    assert 190 < x0 < 210 and 130 < y0 < 150 and 245 < x1 < 270 and 148 < y1 < 165


@pytest.mark.parametrize("factor", [0.25, 0.5, 2.0])
def test_points_scale_with_the_picture(mesh, astronaut, factor: float):
    points = landmarks_of(mesh, scaled(astronaut, factor))
    expected = landmarks_of(mesh, astronaut)
    error = np.abs(points / factor - expected)[:, :2]
    assert error.mean() < 2 and error.max() < 8


@pytest.mark.parametrize("degrees", [-25, 25])
def test_points_turn_with_the_picture(mesh, astronaut, degrees: int):
    turned = (transform.rotate(astronaut, degrees, mode="edge") * 255).astype(np.uint8)
    points, expected = landmarks_of(mesh, turned)[:, :2], landmarks_of(mesh, astronaut)[:, :2]
    middle, angle = 255.5, np.radians(-degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    expected = (expected - middle) @ turn.T + middle
    assert np.abs(points - expected).mean() < 3


def test_a_small_face_in_a_large_picture_is_found(mesh, astronaut):
    picture = on_canvas(scaled(astronaut, 0.4), (900, 1400), 1100, 600)  # 40 of 1400 pixels
    (face,) = mesh.all_faces(picture)
    nose = mesh.landmarks(picture, face)[0][NOSE_TIP, :2]
    assert nose == pytest.approx((1100 + 227 * 0.4, 600 + 126 * 0.4), abs=3)


def test_a_face_that_fills_the_picture_is_found(mesh, astronaut):
    close = astronaut[85:175, 180:270]
    assert len(mesh.faces(close)) == 1
    assert len(mesh.all_faces(close)) == 1


def test_the_largest_of_several_faces_comes_first(mesh, astronaut):
    picture = on_canvas(scaled(astronaut, 0.5), (512, 800), 0, 100)
    picture[:, 288:] = astronaut
    large, small = mesh.all_faces(picture)
    assert large.box[0] > 288 > small.box[2]
    assert find_portrait(picture, mesh, "two.png").faces == 2


def test_no_face_is_no_face(mesh):
    noise = np.random.default_rng(0).integers(0, 256, (300, 200, 3), dtype=np.uint8)
    for picture in (noise, data.rocket(), np.zeros((40, 40, 3), np.uint8)):
        assert mesh.faces(picture) == mesh.all_faces(picture) == []
    assert mesh.faces(data.chelsea()) == []  # a cat
    with pytest.raises(UserError, match=r"no face found in noise\.png.*--box x0,y0,x1,y1"):
        find_portrait(noise, mesh, "noise.png")


def test_a_picture_of_one_pixel_is_no_face(mesh):
    assert mesh.all_faces(np.zeros((1, 1, 3), np.uint8)) == []


def test_same_picture_same_numbers(mesh, astronaut):
    again = landmarks_of(FaceMesh(), astronaut)
    np.testing.assert_array_equal(again, landmarks_of(mesh, astronaut))


def test_lip_gap_grows_with_the_gap_and_not_with_the_picture(mesh, astronaut):
    points = landmarks_of(mesh, astronaut)
    wider = points.copy()
    wider[14] += wider[14] - wider[13]
    assert lip_gap(wider) == pytest.approx(2 * lip_gap(points), rel=1e-4)
    assert lip_gap(3 * points) == pytest.approx(lip_gap(points), rel=1e-4)
    assert 0.05 < lip_gap(points) < 0.4  # she smiles and shows her teeth


def test_a_half_body_is_found_as_clips_of_half_bodies_show_it(astronaut, mesh):
    place = find_portrait(astronaut, mesh, "astronaut.png", "half_body")
    height, width = astronaut.shape[:2]
    face = face_box(landmarks_of(mesh, astronaut))
    assert place.box == framed(face, "half_body", width, height)
    assert place.box[2] - place.box[0] == min(width, height)


def test_the_portrait_is_a_square_that_frames_the_face_like_training_clips(mesh, astronaut):
    place = find_portrait(astronaut, mesh, "astronaut.png")
    x0, y0, x1, y1 = place.box
    assert x1 - x0 == pytest.approx(y1 - y0) and place.faces == 1
    face = face_box(landmarks_of(mesh, astronaut))
    assert (face[3] - face[1]) / (y1 - y0) == pytest.approx(0.537)
    assert ((face[1] + face[3]) / 2 - y0) / (y1 - y0) == pytest.approx(0.549)
    assert (face[0] + face[2]) / 2 == pytest.approx((x0 + x1) / 2)


def test_the_portrait_of_a_shifted_face_is_shifted():
    x0, y0, x1, y1 = portrait_box((10.0, 20.0, 50.0, 70.0))
    assert portrait_box((17.0, 25.0, 57.0, 75.0)) == pytest.approx((x0 + 7, y0 + 5, x1 + 7, y1 + 5))


def test_loading_greets_nobody(capfd):
    FaceMesh()
    assert capfd.readouterr() == ("", "")


@pytest.mark.footage
def test_training_clips_are_framed_as_portraits_are(mesh, footage):
    from mien.media import read_video

    clips = sorted((footage / "train").glob("*.mp4"))[::100]
    boxes = [portrait_box(face_box(landmarks_of(mesh, read_video(clip)[10]))) for clip in clips]
    middle = np.median(boxes, axis=0) / 256
    assert middle == pytest.approx((0, 0, 1, 1), abs=0.06)


class TestPerson:
    def test_the_astronaut_is_the_person_and_what_stands_behind_is_not(self, mesh, astronaut):
        points = landmarks_of(mesh, astronaut)[:, :2].astype(float)
        mask = person_mask(astronaut, points)
        assert mask.shape == astronaut.shape[:2] and mask.min() >= 0 and mask.max() <= 1
        assert mask[60:200, 190:260].mean() > 0.95 and mask[280:480, 180:280].mean() > 0.9
        assert mask[:120, :60].max() < 0.1 and mask[:200, 460:].max() < 0.1, "flag and shuttle"
        assert np.array_equal(mask, person_mask(astronaut, points))

    def test_a_face_is_the_person_whatever_the_net_says(self):
        noise = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
        square = np.array([(30.0, 20.0), (80.0, 20.0), (80.0, 70.0), (30.0, 70.0)])
        mask = person_mask(noise, square)
        assert mask.shape == (90, 120) and mask[25:65, 35:75].min() > 0.99

    def test_what_stands_behind_is_filled_in_from_around_the_person(self, mesh, astronaut):
        points = landmarks_of(mesh, astronaut)[:, :2].astype(float)
        scene = scene_of(astronaut, points)
        behind = ((scene.background.transpose(1, 2, 0) + 1) * 127.5).round()
        nobody = scene.person < 1e-3
        inner = np.zeros_like(nobody)
        inner[:100, :60] = True  # far from her
        np.testing.assert_array_equal(behind[inner & nobody], astronaut[inner & nobody])
        skin = np.abs(behind[80:180, 200:250] - astronaut[80:180, 200:250]).mean()
        assert skin > 30, "her face is not behind her"


class TestSecondOpinion:
    def test_another_net_sees_the_face_where_facemesh_does(self, mesh, astronaut, footage):
        task = footage.parent / "weights" / "face_landmarker.task"
        if not task.is_file():
            pytest.skip("no face_landmarker.task")
        points = landmarks_of(mesh, astronaut)
        seen = FaceLandmarker(task)(astronaut, points)
        eyes = np.linalg.norm(points[33, :2] - points[263, :2])
        apart = np.linalg.norm(seen[:, :2] - points[:, :2], axis=1)
        assert 0 < apart.mean() < 0.05 * eyes
        assert lip_gap(seen) == pytest.approx(lip_gap(points), abs=0.06)
        np.testing.assert_array_equal(FaceLandmarker()(astronaut, points), seen)

    def test_the_net_that_ships_sees_irises_in_the_eyes(self, mesh, astronaut):
        points = landmarks_of(mesh, astronaut)
        seen = FaceLandmarker().with_irises(astronaut, points)
        assert seen.shape == (478, 3)
        for iris, (outer, inner) in ((468, (33, 133)), (473, (263, 362))):
            left, right = sorted((seen[outer, 0], seen[inner, 0]))
            assert left < seen[iris, 0] < right

    @pytest.mark.parametrize("content", [None, b"text"])
    def test_a_file_that_holds_no_such_net_is_told(self, tmp_path, content):
        path = tmp_path / "face.task"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(UserError, match=r"is not a face_landmarker\.task"):
            FaceLandmarker(path)
