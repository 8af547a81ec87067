"""Curves of speech and a portrait driven by curves, with the weights that ship."""

from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from PIL import Image

from mien.cli import main
from mien.face import FaceMesh
from mien.face_model.arkit import CURVES, ArkitCurves
from mien.face_model.live_link import load_curves, save_curves
from mien.media import load_audio, read_video
from mien.mesh.alignment import head_pose
from mien.mesh.neutral import middle_gap
from tests.tiny_nets import write_wav


@pytest.fixture(scope="module")
def portrait(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("portrait") / "astronaut.png"
    Image.fromarray(skimage.data.astronaut()).save(path)
    return path


def test_speech_opens_and_shuts_the_mouth_of_its_curves(shipped, tmp_path, portrait):
    with as_file(files("mien") / "assets" / "demo.wav") as sentence:
        sound = load_audio(sentence)[: int(1.6 * 16_000)].numpy()
    wav, output = write_wav(tmp_path / "a.wav", sound), tmp_path / "a.npz"
    assert main(["export-motion", str(wav), str(portrait), "--fps", "25", "-o", str(output)]) == 0
    found = load_curves(output)
    assert len(found) == 40
    jaw, low = (found.values[:, CURVES.index(n)] for n in ("jawOpen", "mouthLowerDownLeft"))
    assert np.ptp(jaw + low) > 0.15
    assert np.abs(np.diff(found.head, axis=0)).max() < np.radians(4)


def test_curves_open_the_mouth_and_turn_the_head_of_a_portrait(shipped, tmp_path, portrait):
    values = np.zeros((5, len(CURVES)))
    values[2:, CURVES.index("jawOpen")] = 0.6
    head = np.zeros((5, 3))
    head[4, 0] = 0.25
    curves, output = tmp_path / "a.csv", tmp_path / "a.mp4"
    save_curves(ArkitCurves(values, head, np.zeros((5, 3)), 25.0), curves)
    given = ["drive-arkit", curves, portrait, "-o", output, "--fps", "25"]
    assert main(list(map(str, given))) == 0
    frames, mesh = read_video(output), FaceMesh()
    assert len(frames) == 5
    points = [mesh.landmarks(f, mesh.faces(f)[0])[0].astype(np.float64) for f in frames]
    heads = np.stack([head_pose(p).to_head(p) for p in points])
    gaps = middle_gap(heads)
    assert gaps[2:4].min() > gaps[:2].max() + 0.05
    nose = [p[4, 0] - p[[33, 263], 0].mean() for p in points]
    assert nose[4] > max(nose[:4]) + 2, "to the picture's right"
    assert main(list(map(str, given))) == 1, "it exists"
