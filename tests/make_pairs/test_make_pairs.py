"""Still portraits become clips: with known meshes, alike in a group, before a wall that stays."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import skimage.io
import torch

from mien.cli import main
from mien.data.augment import AugmentConfig
from mien.data.datasets import ClipCache, FramePairs, MixedPairs
from mien.data.manifest import read_manifest
from mien.data.meshes import MeshCache, face_mesh
from mien.errors import UserError
from mien.make_pairs.motions import draw_motion
from mien.make_pairs.portraits import PortraitFile, group_people, list_portraits
from mien.media import read_video
from mien.mesh.motion import MeshMotion
from tests.astronaut import write_drifting

FRAMES = 6
OFF = ("bend", "stretch", "turn", "shift", "flip", "color", "gamma", "backdrop", "motion_view")
PLAIN = AugmentConfig(
    **dict.fromkeys(OFF, 0.0), same_frame=0.0, head_move=0.0, flow=0.0, bend_points=4
)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """The data set of two people, and one picture without a face."""
    root = tmp_path_factory.mktemp("made")
    portraits = root / "portraits"
    portraits.mkdir()
    astronaut = skimage.data.astronaut()
    skimage.io.imsave(portraits / "ann.png", astronaut)
    skimage.io.imsave(portraits / "bea.png", np.ascontiguousarray(astronaut[:300, 100:400, ::-1]))
    skimage.io.imsave(portraits / "wall.png", skimage.data.brick())
    (portraits / "manifest.tsv").write_text("file\tident\tclass\nann.png\tann\tpd\n")
    (root / "clips").mkdir()
    write_drifting(root / "clips")
    assert main(command(root)) == 0
    return root


def command(root: Path) -> list[str]:
    folders = [str(root / name) for name in ("portraits", "clips")]
    options = ["-o", str(root / "set"), "--meshes", str(root / "meshes")]
    return ["make-pairs", *folders, *options, "--frames", str(FRAMES), "--size", "128"]


def test_people_and_terms_stand_in_the_manifest(made: Path):
    records = read_manifest(made / "set" / "train.jsonl", made / "set")
    assert sorted((r.identity, r.licence) for r in records) == [("ann", "pd"), ("bea", "own")]
    assert all(r.frames == FRAMES and r.group == 0 and r.mouth for r in records)


def test_the_meshes_that_were_kept_are_those_of_the_frames(made: Path):
    cache = MeshCache(made / "set", made / "meshes")
    for record in read_manifest(made / "set" / "train.jsonl"):
        kept = cache.read(record).points.numpy() * 128
        frames = read_video(made / "set" / record.path)
        assert np.abs(np.diff(kept[:, :, :2], axis=0)).max() > 2, "heads are moved"
        for points, frame in zip(kept, frames, strict=True):
            seen, _ = face_mesh().landmarks(frame, face_mesh().faces(frame)[0])
            assert np.linalg.norm((seen - points)[:, :2], axis=1).mean() < 3


def test_what_stands_behind_stays(made: Path):
    for record in read_manifest(made / "set" / "train.jsonl"):
        frames = read_video(made / "set" / record.path).astype(float)
        corner = frames[:, :20, :12]
        assert np.abs(corner - corner[:1]).mean() < 4, "but for what the encoder loses"
        assert np.abs(frames - frames[:1]).mean() > 2


def test_what_is_there_is_not_made_again_and_what_shows_no_face_is_left_out(made: Path, capsys):
    before = {p.name: p.stat().st_mtime_ns for p in (made / "set").glob("*.mp4")}
    assert main(command(made)) == 0
    assert before == {p.name: p.stat().st_mtime_ns for p in (made / "set").glob("*.mp4")}
    assert "left out: " in (said := capsys.readouterr().out) and "no face found in" in said


def test_a_clip_that_lost_its_meshes_and_other_numbers_are_made_anew(made: Path, tmp_path: Path):
    for name in ("portraits", "clips", "meshes", "set"):
        shutil.copytree(made / name, tmp_path / name)
    records = read_manifest(tmp_path / "set" / "train.jsonl")
    cache = MeshCache(tmp_path / "set", tmp_path / "meshes")
    (tmp_path / "meshes" / cache._name(records[0])).unlink()
    assert main(command(tmp_path)) == 0
    assert read_manifest(tmp_path / "set" / "train.jsonl") == records
    assert main([*command(tmp_path), "--seed", "1"]) == 0
    again = read_manifest(tmp_path / "set" / "train.jsonl", tmp_path / "set")
    assert not {r.path for r in again} & {r.path for r in records}


@pytest.mark.parametrize(("option", "value"), [("--size", "127"), ("--seed", "-1")])
def test_numbers_that_cannot_be_used_are_told(made: Path, option: str, value: str, capsys):
    assert main([*command(made), option, value]) == 1
    assert capsys.readouterr().err.startswith("error: ")


def test_folders_that_cannot_be_used(tmp_path: Path, capsys):
    with pytest.raises(UserError, match="does not exist"):
        list_portraits(tmp_path / "nowhere")
    with pytest.raises(UserError, match="no picture in"):
        list_portraits(tmp_path)
    (tmp_path / "a.png").touch()
    (tmp_path / "manifest.tsv").write_text("name\tident\na.png\tann\n")
    with pytest.raises(UserError, match="needs the columns file, ident, class"):
        list_portraits(tmp_path)


def test_groups_hold_different_people_and_every_picture_once():
    files = [PortraitFile(Path(f"{i}.png"), f"p{i % 5}", "own") for i in range(12)]
    groups = group_people(files, 3, seed=0)
    assert sorted(f.path for group in groups for f in group) == sorted(f.path for f in files)
    assert all(len({f.identity for f in group}) == len(group) for group in groups)
    assert groups != group_people(files, 3, seed=1)


def test_motion_is_drawn_from_the_driver():
    count = 9
    driver = MeshMotion(
        np.arange(count)[:, None, None] * np.ones((1, 468, 3)),
        np.zeros((count, 3)), np.zeros((count, 2)), np.zeros(count),
    )  # fmt: skip
    drawn = [draw_motion(driver, 20, np.random.default_rng(s)) for s in (0, 0, 1)]
    assert set(drawn[0].mesh.offsets[:, 0, 0]) <= set(range(count))
    np.testing.assert_array_equal(drawn[0].mesh.turn, drawn[1].mesh.turn)
    assert not np.array_equal(drawn[0].mesh.offsets, drawn[2].mesh.offsets)
    many = [draw_motion(driver, 200, np.random.default_rng(s)) for s in range(10)]
    turned = [np.degrees(one.mesh.turn.std(axis=0)) for one in many if one.mesh.turn.any()]
    np.testing.assert_allclose(np.mean(turned, axis=0), (6, 8, 4), rtol=0.1)
    assert 0 < np.mean([(one.blinks > 0).mean() for one in many]) < 0.3


def pairs(made: Path, **more) -> FramePairs:
    records = read_manifest(made / "set" / "train.jsonl")
    clips, meshes = ClipCache(made / "set", 128, 8), MeshCache(made / "set", made / "meshes")
    return FramePairs(records, clips, PLAIN, 0.0, 0, meshes, **more)


def test_what_was_guessed_counts_less(made: Path):
    pair = pairs(made)[0]
    assert pair.guide is not None
    face = pair.guide.skin[:, None] > 0
    assert bool((pair.pixel_weight[face] == 1).all())
    assert pair.pixel_weight.min() == pytest.approx(0.3)
    assert 0.05 < (pair.pixel_weight < 0.5).float().mean() < 0.6


def test_somebody_else_who_does_the_same_drives(made: Path):
    plain, crossed = pairs(made), pairs(made, cross_identity=1.0)
    for number in range(4):
        own, other = plain[number], crossed[number]
        torch.testing.assert_close(own.driving, own.motion_view_driving[:, 0])
        assert (other.motion_view_driving[:, 0] - other.driving).abs().mean() > 0.05
        torch.testing.assert_close(other.motion_view_source, other.source)


def test_data_sets_are_mixed_by_their_weights(made: Path):
    one = pairs(made)
    two = pairs(made)
    two.augmentation = replace(PLAIN, gamma=1.0)
    mixed = MixedPairs([one, two], [3.0, 1.0], seed=0)
    same = [torch.equal(mixed[i].source, one[i].source) for i in range(24)]
    assert 0.55 < np.mean(same) < 0.95
    assert same == [torch.equal(mixed[i].source, one[i].source) for i in range(24)]


def test_a_run_learns_from_mixed_sets(made: Path, tmp_path: Path):
    numbers = ["--model.animator.guide", "true", "--model.animator.image_size", "128"]
    run = ["--data.root", str(made / "clips"), "--data.meshes", str(made / "meshes")]
    run += ["--data.mix", f'{{"{made / "set"}": 2.0}}', "--data.cross_identity", "0.5"]
    run += ["--trainer.default_root_dir", str(tmp_path), "--trainer.enable_progress_bar", "false"]
    tiny = ["fit", "--config", "stage1.yaml", "--config", "tiny.yaml", "--trainer.max_steps", "2"]
    assert main([*tiny, *numbers, *run]) == 0
    assert (tmp_path / "last.ckpt").is_file()


def test_a_weight_of_nothing_is_refused(made: Path, capsys):
    wrong = ["--data.root", str(made / "clips"), "--data.mix", f'{{"{made / "set"}": 0}}']
    assert main(["fit", "--config", "stage1.yaml", "--config", "tiny.yaml", *wrong]) == 1
    assert "must be above 0" in capsys.readouterr().err
