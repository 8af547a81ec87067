"""Scores of whole clips and the tool that prints them."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mien.data.manifest import ClipRecord, write_manifest
from mien.errors import UserError
from mien.evaluation import FrameMetric, Suite, Task, video_sync
from mien.evaluation.reenact import compare, reenact_clips
from mien.evaluation.suite import Scores
from mien.evaluation.summary import Scored, by_row, mean_by_person, mean_of, median_of
from mien.media import VideoWriter
from tests.portrait.tiny import pictures
from tests.tiny_nets import save_tiny_pair, tiny_pair, voice
from tests.tools import load_tool

MOUTH = torch.zeros(1, 64, 64)
MOUTH[:, 40:56, 20:44] = 1


@pytest.fixture(scope="module")
def suite() -> Suite:
    return Suite(Task.REENACT, "real")


def scores_of(suite: Suite, frames: torch.Tensor, mouth: torch.Tensor) -> dict[str, Scores]:
    return suite.score(compare(tiny_pair()[0], frames, mouth))


@pytest.fixture
def clips(tmp_path) -> list[ClipRecord]:
    """Three short clips of two people who slide sideways."""
    records = []
    for number, identity in enumerate(("ann", "bob", "bob")):
        still = pictures(1, 64, seed=number)[0]
        frames = torch.stack([torch.roll(still, shift, dims=2) for shift in range(11)])
        pixels = ((frames + 1) * 127.5).byte().permute(0, 2, 3, 1).numpy()
        with VideoWriter(tmp_path / f"{number}.mp4", torch.zeros(11 * 640)) as writer:
            writer.write(np.ascontiguousarray(pixels))
        mouth = (0.3, 0.6, 0.7, 0.9) if number else None
        records.append(ClipRecord(f"{number}.mp4", identity, "own", 0.44, 11, mouth))
    return records


def test_a_still_clip_is_copied_without_error_and_drawn_as_the_source_at_rest(suite):
    scored = scores_of(suite, pictures(1).repeat(12, 1, 1, 1), MOUTH)
    assert scored["copied"]["psnr"] == scored["real"]["psnr"] == pytest.approx(100)
    assert scored["copied"]["mouth"] == scored["copied"]["l1"] == 0
    assert scored["copied"]["ssim"] == pytest.approx(1)
    assert scored["drawn"]["psnr"] == pytest.approx(scored["undriven"]["psnr"], abs=0.01)


def test_scores_are_per_frame_and_chunks_change_nothing(suite):
    frames = pictures(12)
    scored = scores_of(suite, frames, MOUTH)["drawn"]
    with torch.no_grad():
        drawn = tiny_pair()[0](frames[:1], frames[None, 1:])[0].clamp(-1, 1)
    errors = (drawn - frames[1:]).square().mean((1, 2, 3)) / 4
    assert scored["psnr"] == pytest.approx(float((-10 * errors.log10()).mean()), abs=1e-3)
    error = (drawn - frames[1:]).abs()
    assert scored["l1"] == pytest.approx(float(error.mean()) / 2, abs=1e-5)
    mouth = error[:, :, 40:56, 20:44].mean() / 2
    assert scored["mouth"] == pytest.approx(float(mouth), abs=1e-5)


def test_many_frames_have_the_ssim_that_each_has_alone(suite):
    rows = compare(tiny_pair()[0], pictures(36), MOUTH)  # more than are scored at once
    metric = next(m for m in suite.metrics if m.name == "ssim")
    assert isinstance(metric, FrameMetric)
    each = metric.of_frames(rows["drawn"])
    alone = metric.of_frames(replace(
        rows["drawn"], clip=rows["drawn"].clip.part(33, 34),
        reference=rows["drawn"].reference.part(33, 34),
    ))  # fmt: skip
    assert len(each) == 35 and float(each[33]) == pytest.approx(float(alone), abs=1e-6)


def test_an_unknown_mouth_is_no_score(suite):
    assert math.isnan(scores_of(suite, pictures(3), torch.zeros(1, 64, 64))["drawn"]["mouth"])


def test_people_count_alike_however_many_clips_they_have():
    unknown = float("nan")
    scored = [
        Scored("1", "bob", {"drawn": {"psnr": 20.0, "mouth": 0.1}}),
        Scored("2", "ann", {"drawn": {"psnr": 30.0, "mouth": unknown}}),
        Scored("3", "bob", {"drawn": {"psnr": 24.0, "mouth": 0.3}}),
    ]
    people = mean_by_person(scored)
    assert list(people) == ["ann", "bob"]
    assert [rows["drawn"]["psnr"] for rows in people.values()] == [30.0, 22.0]
    assert by_row(list(people.values()), mean_of)["drawn"]["psnr"] == 26.0
    every = [each.scores for each in scored]
    assert by_row(every, mean_of)["drawn"]["mouth"] == pytest.approx(0.2)
    assert by_row(every, median_of)["drawn"]["psnr"] == 24.0


def test_the_tool_prints_a_table_and_keeps_the_figures(clips, suite, tmp_path, capsys):
    write_manifest(tmp_path / "valid.jsonl", clips)
    weights, _ = save_tiny_pair(tmp_path)
    kept = tmp_path / "out"
    asked = ["--root", str(tmp_path), "--manifest", "valid.jsonl", "--animator", str(weights)]
    tool = load_tool("evaluate")
    assert tool.main(["reenact", *asked, "--stride", "2", "-o", str(kept)]) == 0

    figures = json.loads((kept / "scores.json").read_text())
    animator, _ = tiny_pair()
    direct = {
        each.record.path: suite.score(each.rows)["drawn"]["psnr"]
        for each in reenact_clips(animator, clips, tmp_path, stride=2)
    }
    drawn = {path: rows["drawn"] for path, rows in figures["clips"].items()}
    for path, psnr in direct.items():
        assert drawn[path]["psnr"] == pytest.approx(psnr, abs=1e-3)
    assert set(figures["people"]) == {"ann", "bob"}
    assert drawn["0.mp4"]["mouth"] is None and drawn["1.mp4"]["mouth"] > 0
    assert drawn["0.mp4"]["face"] is None  # nobody to be seen in these pictures
    table = capsys.readouterr().out
    assert "mean over people drawn" in table and f"{direct['0.mp4']:.4f}"[:5] in table


def test_a_stride_beyond_the_clip_is_told(clips, tmp_path, capsys):
    write_manifest(tmp_path / "valid.jsonl", clips)
    weights, _ = save_tiny_pair(tmp_path)
    asked = ["--root", str(tmp_path), "--manifest", "valid.jsonl", "--animator", str(weights)]
    assert load_tool("evaluate").main(["reenact", *asked, "--stride", "99"]) == 1
    assert "0.mp4 has no second frame" in capsys.readouterr().err


def test_sync_of_a_video_without_a_face_is_refused(tmp_path):
    with VideoWriter(tmp_path / "plain.mp4", torch.from_numpy(voice(0.4)).float()) as writer:
        writer.write(np.full((10, 64, 64, 3), 128, dtype=np.uint8))
    with pytest.raises(UserError, match="0% of its frames"):
        video_sync(tmp_path / "plain.mp4")


@pytest.mark.footage
def test_real_lips_follow_their_own_voice(footage: Path):
    clips = sorted((footage / "train").glob("grid_s1_*.mp4"))[::150]
    assert clips, "no clips of that name"
    scores = [video_sync(clip) for clip in clips]
    assert np.mean([s.correlation for s in scores]) > 0.3
    assert np.mean([s.correlation - s.reversed for s in scores]) > 0.1
