"""fit-face, export-motion and drive-arkit on a clip of the astronaut, and what they refuse."""

from pathlib import Path

import numpy as np
import pytest
import skimage.data
from PIL import Image

from mien.cli import main
from mien.errors import UserError
from mien.face_model.clips import fit_file, fit_frames
from mien.face_model.coefficients import FaceCoefficients
from mien.face_model.live_link import load_curves
from mien.face_model.parametric import FaceModel
from mien.face_model.points import points_of
from mien.face_model.tracking import FaceTracker
from mien.media import read_frames
from tests.astronaut import write_drifting
from tests.tiny_nets import save_tiny_pair, write_wav


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    return write_drifting(tmp_path_factory.mktemp("clips")) / "train" / "a.mp4"


@pytest.fixture(scope="module")
def tracker() -> FaceTracker:
    return FaceTracker()


@pytest.fixture(scope="module")
def fitted(clip, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("fits") / "a.npz"
    assert main(["fit-face", str(clip), "-o", str(output)]) == 0
    return output


def test_the_face_is_followed_and_fitted(clip, fitted, tracker):
    found = FaceCoefficients.load(fitted)
    assert found.frames.tolist() == list(range(26)) and found.fps == 25
    points = tracker.track(read_frames(clip))
    again = points_of(FaceModel.load(), found)[..., :2]
    eyes = np.linalg.norm(points[0, 263, :2] - points[0, 33, :2])
    assert np.linalg.norm(again - points[:, :468, :2], axis=2).mean() < 0.03 * eyes
    moved = found.translation[-1] - found.translation[0]
    pixels = found.camera.focal * 128 / found.translation[:, 2].mean() * moved[:2]
    np.testing.assert_allclose(pixels, [-5, 6], atol=1.5)  # it drifts by -25 // 5 and 25 // 4


def test_frames_without_a_face_are_lost_and_found_again(clip, tracker):
    frames = list(read_frames(clip))[:6]
    grey = np.full_like(frames[0], 127)
    points = tracker.track([grey, frames[0], frames[1], grey, frames[4], frames[5]])
    seen = np.isfinite(points).all(axis=(1, 2))
    assert seen.tolist() == [False, True, True, False, True, True]
    found = fit_frames([grey, frames[0], frames[1]], "three frames", tracker)
    assert found.frames.tolist() == [1, 2]


def test_a_picture_is_fitted_too(tmp_path, tracker):
    Image.fromarray(skimage.data.astronaut()).save(tmp_path / "a.png")
    found = fit_file(tmp_path / "a.png", tracker)
    assert len(found) == 1 and found.camera.width == 512
    smile = [
        found.expression[0, n]
        for n, name in enumerate(FaceModel.load().expression_names)
        if name.startswith("mouthSmile")
    ]
    assert min(smile) > 0.2, "she smiles"


def test_what_cannot_be_fitted_is_said_in_one_sentence(tmp_path, clip, fitted, capsys, tracker):
    Image.fromarray(np.full((64, 64, 3), 127, np.uint8)).save(tmp_path / "grey.png")
    for given, words in (
        ([tmp_path / "no.mp4"], "no.mp4"),
        ([tmp_path / "grey.png"], "none of 1 frames shows a face"),
        ([clip, "-o", fitted], "add --overwrite"),
        ([clip, "-o", tmp_path / "a.txt"], "must end in .npz"),
        ([clip, "-o", tmp_path / "none" / "a.npz"], "does not exist"),
        ([clip, "--focal", "0", "-o", tmp_path / "b.npz"], "above 0"),
        ([clip, "--face-model", fitted, "-o", tmp_path / "b.npz"], "is no face model"),
    ):
        assert main(["fit-face", *map(str, given)]) == 1
        error = capsys.readouterr().err.splitlines()
        assert words in error[-1]
    assert [file.name for file in tmp_path.iterdir()] == ["grey.png"]
    with pytest.raises(UserError, match="nothing: none of 0 frames"):
        fit_frames([], "nothing", tracker)


def test_curves_of_a_clip_are_written_at_both_rates(clip, fitted, tmp_path, capsys):
    assert main(["export-motion", str(clip), "-o", str(tmp_path / "a.csv")]) == 0
    given = ["export-motion", str(fitted), "--fps", "25", "-o", str(tmp_path / "a.npz")]
    assert main(given) == 0
    fast, slow = load_curves(tmp_path / "a.csv"), load_curves(tmp_path / "a.npz")
    assert len(fast) == 61 and len(slow) == 26
    np.testing.assert_allclose(fast.values[::12], slow.values[::5], atol=1e-6)
    assert main(given) == 1 and "add --overwrite" in capsys.readouterr().err


def test_speech_of_a_net_without_a_mesh_has_no_curves(tmp_path, clip, capsys):
    animator, speech = save_tiny_pair(tmp_path)
    Image.fromarray(skimage.data.astronaut()).save(tmp_path / "a.png")
    given = ["export-motion", clip, tmp_path / "a.png", "-o", tmp_path / "a.csv"]
    given += ["--animator", animator, "--speech", speech]
    assert main(list(map(str, given))) == 1
    assert "no face mesh" in capsys.readouterr().err


def test_inputs_in_the_wrong_order_are_told(clip, fitted, tmp_path, capsys):
    curves = tmp_path / "curves.csv"
    assert main(["export-motion", str(fitted), "-o", str(curves)]) == 0
    portrait = tmp_path / "a.png"
    Image.fromarray(skimage.data.astronaut()).save(portrait)
    output = ["-o", str(tmp_path / "a.mp4")]
    for command, given, name in (("reenact", clip, "video"), ("drive-arkit", curves, "curves")):
        assert main([command, str(portrait), str(given), *output]) == 1
        assert f"the {name} comes first, then the portrait" in capsys.readouterr().err


def test_an_input_is_never_overwritten(fitted, tmp_path, capsys):
    curves = tmp_path / "curves.npz"
    curves.write_bytes(fitted.read_bytes())
    assert main(["export-motion", str(curves), "-o", str(curves), "--overwrite"]) == 1
    assert "is an input as well" in capsys.readouterr().err
    sound = tmp_path / "talk.mp4"
    sound.write_bytes(b"sound")
    given = [str(curves), str(curves), "--audio", str(sound), "-o", str(sound), "--overwrite"]
    assert main(["drive-arkit", *given]) == 1
    assert "is an input as well" in capsys.readouterr().err and sound.read_bytes() == b"sound"


def test_audio_without_a_portrait_has_no_motion(tmp_path, capsys):
    wav = write_wav(tmp_path / "a.wav", np.zeros(1600, np.float32))
    assert main(["export-motion", str(wav), "-o", str(tmp_path / "a.csv")]) == 1
    assert "a.wav has no video stream: for the motion of its speech" in capsys.readouterr().err
    assert not (tmp_path / "a.csv").exists()
