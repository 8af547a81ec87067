"""`mien reenact --system loki`: coefficients of two people, controls, the command and its film."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image
from scipy.spatial.transform import Rotation

from mien.data.faces import face_model
from mien.errors import UserError
from mien.evaluation.comparison import TrackedClip
from mien.evaluation.systems import LokiSystem, Pair
from mien.face_model.coefficients import FaceCoefficients
from mien.loki.driving import LokiControls, drive_faces, fill_frames, read_blinks, usual_pose
from mien.loki.net import Loki
from mien.loki.sampling import LokiSamplingConfig
from mien.loki.weights import LOKI
from mien.media import probe_video, read_video
from mien.reenactment import main as reenact
from mien.session.loki import LokiSession
from tests.astronaut import write_drifting
from tests.face_model.faces import coefficients
from tests.loki.tiny import TINY, awake
from tests.tiny_nets import save_net

BLINKS = [face_model().expression_names.index(f"eyeBlink{side}") for side in ("Left", "Right")]


@pytest.fixture(scope="module")
def portrait() -> FaceCoefficients:
    return coefficients(face_model(), t=1, seed=1)


@pytest.fixture(scope="module")
def driver() -> FaceCoefficients:
    other = coefficients(face_model(), t=8, seed=2)
    camera = replace(other.camera, focal=2.0, width=320, height=320)
    return replace(other, camera=camera)


def drive(portrait, driver, transfer="relative", **controls) -> FaceCoefficients:
    return drive_faces(face_model(), portrait, driver, transfer, LokiControls(**controls))


def turns(faces: FaceCoefficients) -> Rotation:
    return Rotation.from_rotvec(faces.rotation)


@pytest.mark.parametrize("transfer", ["relative", "absolute"])
def test_shape_is_the_portraits_and_expression_the_drivers(portrait, driver, transfer: str):
    driven = drive(portrait, driver, transfer)
    np.testing.assert_array_equal(driven.identity, portrait.identity)
    assert (driven.scale, driven.camera) == (portrait.scale, portrait.camera)
    np.testing.assert_allclose(driven.expression, driver.expression)
    np.testing.assert_allclose(driven.eyes, driver.eyes)


def test_relative_starts_from_the_portraits_pose_and_turns_as_the_driver(portrait, driver):
    driven, usual = drive(portrait, driver), usual_pose(driver)
    np.testing.assert_allclose(driven.rotation[usual], portrait.rotation[0], atol=1e-9)
    np.testing.assert_allclose(driven.translation[usual], portrait.translation[0], atol=1e-9)
    # The paper's order of the relative rotation (metric A): the driver's turns, from any frame.
    made, wanted = (turns(faces) * turns(faces)[0].inv() for faces in (driven, driver))
    assert (made * wanted.inv()).magnitude().max() < 1e-9


def test_absolute_puts_the_head_where_the_drivers_is_in_the_picture(portrait, driver):
    driven = drive(portrait, driver, "absolute")
    assert (turns(driven) * turns(driver).inv()).magnitude().max() < 1e-9
    own = replace(driven, identity=driver.identity, scale=driver.scale)
    model = face_model()
    sides = own.camera.width, driver.camera.width
    here, there = (
        model.project(faces)[..., :2] / side
        for faces, side in zip((own, driver), sides, strict=True)
    )
    np.testing.assert_allclose(here, there, atol=0.02)  # perspective differs by focal length


def test_same_person_is_the_driver_itself(portrait, driver):
    driven = drive(portrait, driver, "same_person")
    for name in ("identity", "expression", "eyes", "translation"):
        np.testing.assert_allclose(getattr(driven, name), getattr(driver, name), atol=1e-9)
    assert (turns(driven) * turns(driver).inv()).magnitude().max() < 1e-9
    assert driven.camera == driver.camera


@pytest.mark.parametrize("transfer", ["relative", "absolute"])
def test_controls_scale_and_freeze(portrait, driver, transfer: str):
    frozen = drive(portrait, driver, transfer, freeze_pose=True)
    np.testing.assert_allclose(frozen.rotation, np.repeat(portrait.rotation, 8, axis=0))
    np.testing.assert_allclose(frozen.translation, np.repeat(portrait.translation, 8, axis=0))
    assert drive(portrait, driver, transfer, expression_scale=0.0).expression.max() == 0

    whole, half = (drive(portrait, driver, transfer, pose_scale=s) for s in (1.0, 0.5))
    usual = usual_pose(driver)
    away = [(turns(f) * turns(f)[usual].inv()).magnitude() for f in (whole, half)]
    np.testing.assert_allclose(away[1], away[0] / 2, atol=1e-9)
    strong = drive(portrait, driver, transfer, expression_scale=9.0).expression
    low, high = face_model().expression_range.T
    assert (strong >= low).all() and (strong <= high).all()


def test_blinks_are_the_curves(portrait, driver, tmp_path: Path):
    path = tmp_path / "blinks.txt"
    path.write_text("0\n0.5\n1\n0.25\n")
    driven = drive(portrait, driver, blinks=read_blinks(path))
    wanted = [0, 0.5, 1, 0.25, 0.25, 0.25, 0.25, 0.25]
    for index in BLINKS:
        np.testing.assert_allclose(driven.expression[:, index], wanted)
    for wrong in ("", "0\n2\n", "shut"):
        path.write_text(wrong)
        with pytest.raises(UserError, match=r"blinks\.txt"):
            read_blinks(path)
    with pytest.raises(UserError, match=r"gone\.txt"):
        read_blinks(tmp_path / "gone.txt")


def test_lost_frames_are_interpolated(driver):
    line = replace(driver, translation=np.arange(24.0).reshape(8, 3))
    filled = fill_frames(line.at(np.array([1, 2, 5])), 8)
    np.testing.assert_allclose(
        filled.translation[:6], [line.translation[max(1, t)] for t in range(6)]
    )
    np.testing.assert_allclose(filled.translation[6:], line.translation[[5, 5]])
    assert filled.frames.tolist() == list(range(8))


def test_the_usual_pose_is_in_the_middle_of_all(driver):
    rotation = np.zeros((8, 3))
    rotation[:, 1] = [0.9, 0.1, 0.12, 0.2, 0.15, -0.6, 0.1, 0.17]
    assert usual_pose(replace(driver, rotation=rotation)) == 4  # the mean is 0.1425
    assert usual_pose(driver.at(slice(3, 4))) == 0

    # Around half a turn the vectors' own mean is no turn at all.
    rotation[:] = 0
    rotation[:, 1] = np.pi - np.array([0.3, -0.3, 0.2, -0.2, 0.05, -0.25, 0.15, 0.1])
    rotation[rotation > np.pi] -= 2 * np.pi
    assert usual_pose(replace(driver, rotation=rotation)) == 4  # the mean is pi - 0.006


def test_relative_keeps_the_portraits_pose_in_the_frame_of_the_usual_one(portrait, driver):
    rotation = np.zeros((8, 3))
    rotation[:, 0] = [0.5, 0.1, 0.12, 0.2, 0.15, -0.6, 0.1, 0.57]
    driven = drive(portrait, replace(driver, rotation=rotation))
    away = (turns(driven) * turns(portrait)[0].inv()).magnitude()
    assert away.argmin() == 4 and away[4] < 1e-9  # the mean is 0.1425


@pytest.fixture(scope="module")
def session() -> LokiSession:
    return LokiSession(awake(Loki(TINY)), LokiSamplingConfig(steps=2))


@pytest.fixture(scope="module")
def film(tmp_path_factory) -> Path:
    return write_drifting(tmp_path_factory.mktemp("film")) / "train" / "a.mp4"


def test_a_film_is_drawn_with_its_sound_and_a_seed(session: LokiSession, film: Path):
    portrait = session.prepare(skimage.data.astronaut())
    assert portrait.source.shape == (1, 3, 32, 32)

    def drawn(seed: int) -> np.ndarray:
        stream = session.drive(portrait, film, seed=seed)
        assert stream.sound is not None and stream.count == 26
        frames = list(stream)
        times = np.concatenate([part.times for part in frames])
        np.testing.assert_allclose(times, np.arange(26) / 25)
        return np.concatenate([part.pictures for part in frames])

    one, again, other = drawn(0), drawn(0), drawn(1)
    assert one.shape == (26, 32, 32, 3)
    assert np.array_equal(one, again) and not np.array_equal(one, other)


def test_the_evaluation_draws_as_many_frames_as_the_driver_has(session: LokiSession, film: Path):
    frames = read_video(film)[:6]
    points = np.zeros((6, 468, 3))
    clip = TrackedClip(frames, points)
    for same in (True, False):
        pair = Pair(clip, clip.part(2, 3), clip.part(0, 1), same)
        drawn, again, other = (LokiSystem(session, seed)(pair) for seed in (0, 0, 1))
        assert drawn.shape == (6, 32, 32, 3) and drawn.dtype == np.uint8
        assert np.array_equal(drawn, again) and not np.array_equal(drawn, other)


def test_the_command_writes_a_film(film: Path, tmp_path: Path, capsys):
    weights, picture, made = tmp_path / "loki.safetensors", tmp_path / "p.png", tmp_path / "o.mp4"
    save_net(weights, LOKI, awake(Loki(TINY)))
    Image.fromarray(skimage.data.astronaut()).save(picture)
    given = [str(film), str(picture), "-o", str(made), "--device", "cpu"]
    by_loki = [*given, "--system", "loki", "--loki", str(weights), "--steps", "2"]
    more = [
        "--freeze-pose",
        "--expression-scale",
        "1.2",
        "--transfer",
        "absolute",
        "--guidance",
        "1",
        "--temperature",
        "0",
    ]
    assert reenact([*by_loki, *more]) == 0
    info = probe_video(made)
    assert (info.fps, info.width, len(read_video(made))) == (25.0, 32, 26)

    assert reenact([*given, "--overwrite", "--freeze-pose"]) == 1
    assert "--freeze-pose needs --system loki" in capsys.readouterr().err
    assert reenact([*by_loki, "--overwrite", "--animator", "a.ckpt"]) == 1
    assert "--animator is of the system mien" in capsys.readouterr().err


def test_a_picture_without_a_face_is_refused(session: LokiSession):
    with pytest.raises(UserError, match="cropped portrait: none of 1 frames shows a face"):
        session.read(torch.zeros(1, 3, 256, 256))


def test_more_steps_than_timesteps_are_refused():
    with pytest.raises(UserError, match="steps 1001 must be at most 1000"):
        LokiSession(Loki(TINY), LokiSamplingConfig(steps=1001))
