"""Scores of whole clips and the tool that prints them."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from mien.data.manifest import ClipRecord, write_manifest
from mien.errors import UserError
from mien.evaluation import (
    Reenactment,
    mean_by_identity,
    mean_of,
    median_of,
    reenact,
    reenact_clips,
    video_sync,
)
from mien.evaluation.reenact import FaceScores, redraw
from mien.media import VideoWriter
from tests.portrait.tiny import pictures
from tests.tiny_nets import save_tiny_pair, tiny_pair, voice
from tests.tools import load_tool

MOUTH = torch.zeros(1, 64, 64)
MOUTH[:, 40:56, 20:44] = 1


def score(**known: float) -> Reenactment:
    names = ("psnr", "copy_psnr", "ssim", "copy_ssim", "l1", "copy_l1", "mouth", "copy_mouth")
    return Reenactment(**({name: 0.0 for name in (*names, "rest_psnr")} | known))


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


def test_a_still_clip_is_copied_without_error_and_drawn_as_the_source_at_rest():
    animator, _ = tiny_pair()
    frames = pictures(1).repeat(12, 1, 1, 1)
    scored = reenact(animator, frames, redraw(animator, frames), MOUTH)
    assert scored.copy_psnr == pytest.approx(100)
    assert scored.copy_mouth == 0
    assert scored.psnr == pytest.approx(scored.rest_psnr, abs=0.01)
    assert math.isnan(scored.mouth_share)


def test_scores_are_per_frame_and_chunks_change_nothing(monkeypatch):
    animator, _ = tiny_pair()
    frames = pictures(12)
    scored = reenact(animator, frames, redraw(animator, frames), MOUTH)
    with torch.no_grad():
        drawn = animator(frames[:1], frames[None, 1:])[0].clamp(-1, 1)
    errors = (drawn - frames[1:]).square().mean((1, 2, 3)) / 4
    assert scored.psnr == pytest.approx(float((-10 * errors.log10()).mean()), abs=1e-3)
    mouth = (drawn - frames[1:]).abs()[:, :, 40:56, 20:44].mean() / 2
    assert scored.mouth == pytest.approx(float(mouth), abs=1e-5)


def test_an_unknown_mouth_is_no_score():
    animator, _ = tiny_pair()
    frames = pictures(3)
    nowhere = torch.zeros(1, 64, 64)
    assert math.isnan(reenact(animator, frames, redraw(animator, frames), nowhere).mouth)


def test_people_count_alike_however_many_clips_they_have():
    def clip(name: str, who: str) -> ClipRecord:
        return ClipRecord(name, who, "own", 1.0, 25)

    unknown = float("nan")
    scored = [
        (clip("1", "ann"), score(psnr=30.0, mouth=unknown)),
        (clip("2", "bob"), score(psnr=20.0, mouth=0.1)),
        (clip("3", "bob"), score(psnr=24.0, mouth=0.3)),
    ]
    people = mean_by_identity(scored)
    assert {who: mean.psnr for who, mean in people.items()} == {"ann": 30.0, "bob": 22.0}
    assert mean_of(list(people.values())).psnr == 26.0
    assert mean_of([s for _, s in scored]).mouth == pytest.approx(0.2)
    assert median_of([s for _, s in scored]).psnr == 24.0


def test_the_tool_prints_a_table_and_keeps_the_figures(clips, tmp_path, capsys):
    write_manifest(tmp_path / "valid.jsonl", clips)
    weights, _ = save_tiny_pair(tmp_path)
    kept = tmp_path / "out"
    asked = ["--root", str(tmp_path), "--manifest", "valid.jsonl", "--animator", str(weights)]
    tool = load_tool("evaluate")
    assert tool.main(["reenact", *asked, "--stride", "2", "-o", str(kept)]) == 0

    figures = json.loads((kept / "scores.json").read_text())
    animator, _ = tiny_pair()
    redrawn = reenact_clips(animator, clips, tmp_path, stride=2, faces=FaceScores())
    direct = {each.record.path: each.score.psnr for each in redrawn}
    for path, psnr in direct.items():
        assert figures["clips"][path]["psnr"] == pytest.approx(psnr, abs=1e-3)
    assert set(figures["people"]) == {"ann", "bob"}
    assert figures["clips"]["0.mp4"]["mouth"] is None and figures["clips"]["1.mp4"]["mouth"] > 0
    assert figures["clips"]["0.mp4"]["face"] is None  # nobody to be seen in these pictures
    table = capsys.readouterr().out
    assert "mean over people" in table and f"{direct['0.mp4']:.4f}"[:5] in table


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
