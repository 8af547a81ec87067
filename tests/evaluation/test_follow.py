"""`mien evaluate follow`: from drawn clips to tables, JSON, videos and a page."""

import json
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from PIL import Image

from mien.cli import main
from mien.data.drawn import draw_clip, draw_person, write_clips
from mien.data.meshes import face_mesh
from mien.errors import UserError
from mien.evaluation import Comparison, Suite, Task
from mien.evaluation.clips import track_frames
from mien.evaluation.systems import SYSTEMS, Pair
from mien.face import FaceIdentity
from mien.loki.net import Loki
from mien.loki.weights import LOKI
from mien.media import Frames, read_video, to_bytes
from mien.session.portrait import load_face
from tests.loki.tiny import TINY, awake
from tests.tiny_nets import save_net, save_tiny_pair

FRAMES = 4


class Mirror:
    """A system that draws the driver himself, at half the size."""

    def __call__(self, pair: Pair) -> Frames:
        assert len(pair.portrait) == len(pair.rest) == 1
        return np.ascontiguousarray(pair.driver.frames[:, ::2, ::2])


class Still:
    """A system that draws the portrait, whatever the driver does."""

    def __call__(self, pair: Pair) -> Frames:
        return np.repeat(pair.portrait.frames, len(pair.driver), axis=0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("follow")
    write_clips(folder, "valid", people=3, clips=1, frames=10, size=128, seed=0)
    random = np.random.default_rng(5)
    portrait = draw_clip(draw_person(random), 200, 1, random).frames[0]
    Image.fromarray(portrait).save(folder / "portrait.png")
    save_tiny_pair(folder)
    save_net(folder / "loki.safetensors", LOKI, awake(Loki(TINY)))
    return folder


def missing(*_):
    raise UserError("it is not there")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr("mien.evaluation.metrics.identity.FaceIdentity", missing)
    # Maps of 512 pixels take most of the time of these tests.
    monkeypatch.setattr("mien.evaluation.metrics.expression_following.SIZE", 64)


def evaluated(folder: Path, output: Path, *more: str) -> dict:
    given = ["evaluate", "follow", "--root", str(folder), "--manifest", "valid.jsonl"]
    given += ["--animator", str(folder / "animator.safetensors"), "--frames", str(FRAMES)]
    assert main([*given, "-o", str(output), *more]) == 0
    return json.loads((output / "scores.json").read_text(), parse_constant=pytest.fail)


def test_a_perfect_system_scores_zero_and_a_still_one_as_the_baseline(
    folder, tmp_path, monkeypatch
):
    monkeypatch.setitem(SYSTEMS, "mirror", lambda given: Mirror())
    monkeypatch.setitem(SYSTEMS, "still", lambda given: Still())
    figures = evaluated(folder, tmp_path, "--system", "mirror", "still")
    for kind in ("same identity", "cross identity"):
        rows = figures[kind]
        baselines = "still portrait", "another driver", "driver", "driver at 128 px"
        assert set(rows) == {"mirror", "still", *baselines}
        for name in ("head_pose", "head_pose_in_head", "expression"):
            assert rows["driver"][name] == 0
            assert rows["mirror"][name] < 0.5 * rows["still portrait"][name], (kind, name)
            # What is drawn goes through bytes and landmarks once more.
            assert rows["still"][name] == pytest.approx(rows["still portrait"][name], rel=0.05)
            assert rows["another driver"][name] > rows["mirror"][name]
        shares = figures[f"{kind}, share of the still portrait's"]
        assert shares["still portrait"]["head_pose"] == 1
        assert len(figures[f"{kind}, pairs"]) == 3
    assert "nearer is left out: it is not there" in figures["notes"]
    video = read_video(tmp_path / "videos" / "valid_valid-0-0.mp4")
    assert video.shape == (FRAMES, 256, 4 * 256, 3)
    page = (tmp_path / "index.html").read_text()
    assert page.count("<video") == page.count("<img") == 6 and "http" not in page


def test_tiny_nets_follow_pictures_all_the_way(folder, tmp_path, capsys):
    portrait = str(folder / "portrait.png")
    loki = "--system", "mien", "loki", "--loki", str(folder / "loki.safetensors")
    two = (folder / "valid.jsonl").read_text().splitlines()[:2]
    (folder / "two.jsonl").write_text("\n".join(two))
    figures = evaluated(folder, tmp_path, "--manifest", "two.jsonl", "--portraits", portrait, *loki)
    assert set(figures["cross identity, pairs"]) == {
        f"portrait.png by valid/valid-{i}-0.mp4" for i in range(2)
    }
    rows = figures["same identity"]
    assert {"mien", "loki"} < set(rows)
    # The smaller the picture, the less sure the fits of its faces.
    fits = [rows[f"driver at {size} px"]["head_pose"] for size in (64, 32)]
    assert 0 < fits[0] < min(fits[1], rows["still portrait"]["head_pose"])
    assert figures["cross identity"]["loki"]["head_pose"] is None  # noise shows no face
    assert any("loki draws 32 pixels" in note for note in figures["notes"])
    assert any("face model of ICT-FaceKit" in note for note in figures["notes"])
    assert "another driver" in capsys.readouterr().out


def test_one_person_alone_has_no_cross_identity(folder, tmp_path, monkeypatch):
    monkeypatch.setitem(SYSTEMS, "still", lambda given: Still())
    first = (folder / "valid.jsonl").read_text().splitlines()[0]
    (folder / "one.jsonl").write_text(first)
    figures = evaluated(folder, tmp_path, "--manifest", "one.jsonl", "--system", "still")
    assert "cross identity" not in figures
    assert any("second person" in note for note in figures["notes"])
    assert set(figures["same identity"]) == {"still", "still portrait", "driver"}


def test_an_unknown_system_and_missing_weights_are_one_sentence(folder, capsys):
    given = ["evaluate", "follow", "--root", str(folder), "--manifest", "valid.jsonl"]
    assert main([*given, "--system", "magic"]) == 1
    assert "invalid choice: 'magic'" in capsys.readouterr().err
    assert main([*given, "--system", "loki", "--loki", "nowhere.safetensors"]) == 1
    assert "cannot read the weights nowhere.safetensors" in capsys.readouterr().err


def test_identities_are_those_of_the_portrait_or_of_the_driver(monkeypatch):
    """Embeddings are made up: each picture's mean colour."""

    class Colours(FaceIdentity):
        def __init__(self):
            pass

        def __call__(self, picture, points):
            return np.asarray(picture, np.float32).mean(axis=(0, 1))

    monkeypatch.setattr("mien.evaluation.metrics.identity.FaceIdentity", Colours)
    face = to_bytes(load_face(skimage.data.astronaut(), None, 128)[0])
    red, blue = (face * np.array(tint) for tint in ((1, 0.3, 0.3), (0.3, 0.3, 1)))
    portrait, driver = (
        track_frames(face_mesh(), frames.astype(np.uint8)) for frames in (red, blue)
    )
    suite = Suite(Task.FOLLOW_OTHER, "driver")
    rows = {
        name: Comparison(Task.FOLLOW_OTHER, clip, driver, portrait)
        for name, clip in (("portrait", portrait), ("driver", driver))
    }
    scores = suite.score(rows)
    assert scores["portrait"]["nearer"] == 1 and scores["driver"]["nearer"] == 0
    assert scores["portrait"]["id_cosine"] == pytest.approx(1)
    assert scores["driver"]["id_cosine"] < 0.95
