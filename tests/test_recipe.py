"""The recipe of `small`, shortened: from drawn clips to weights that draw better than copying."""

import sys
from pathlib import Path

import pytest
import torch

from mien.checkpoint import load_animator, load_speech_to_motion, motion_fingerprint
from mien.command_line import INTERRUPTED, TERMINATED
from mien.data.datasets import ClipCache, to_picture
from mien.data.drawn import write_clips
from mien.data.records import read_records
from mien.metrics import psnr
from mien.recipe import SMALL, _run_to_its_end
from tests.tools import load_tool

STEPS = 60


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """The folder of the data and of all runs."""
    folder = tmp_path_factory.mktemp("recipe")
    write_clips(folder / "data", "train", people=6, clips=2, frames=30, size=64, seed=0)
    write_clips(folder / "data", "valid", people=2, clips=1, frames=30, size=64, seed=1)
    write_clips(folder / "data" / "made", "train", people=4, clips=1, frames=30, size=64, seed=2)
    assert run(folder) == 0
    return folder


def run(folder: Path) -> int:
    more = ["--trainer.max_steps", str(STEPS), "--trainer.enable_progress_bar", "false"]
    more += ["--data.workers", "0", "--trainer.limit_val_batches", "1"]
    more += ["--model.optimizer.warmup_steps", "10", "--model.optimizer.decay_steps", "0"]
    more += ["--model.optimizer.learning_rate", "2e-3"]  # so few steps learn enough only by it
    asked = [str(folder / "data"), "-o", str(folder / "runs"), "--overlay", "tiny.yaml"]
    return load_tool("train_small").main([*asked, "--more", *more])


def test_every_phase_ends_and_says_how_long_it_took(trained: Path, capsys):
    before = [(trained / "runs" / p.name / "last.ckpt").stat().st_mtime_ns for p in SMALL]
    assert run(trained) == 0, "what is finished is not done again"
    said = capsys.readouterr().out
    assert all(f"{phase.name}: 0.0" in said and "hours" in said for phase in SMALL)
    assert before == [(trained / "runs" / p.name / "last.ckpt").stat().st_mtime_ns for p in SMALL]


@torch.inference_mode()
def test_it_learns_to_draw_people_it_has_not_seen_better_than_copying(trained: Path):
    animator = load_animator(trained / "runs" / "animator.safetensors")
    root = trained / "data"
    gains = []
    for record in read_records(root, Path("valid.jsonl")):
        frames = to_picture(ClipCache(root, 64, 1).frames(record))
        drawn = animator(frames[:1], frames[None, 1:])[0]
        copied = frames[:1].expand_as(drawn)
        gains.append((psnr(drawn, frames[1:]) - psnr(copied, frames[1:])).mean())
    assert min(gains) > 0, gains


def test_the_two_nets_belong_together(trained: Path):
    animator = load_animator(trained / "runs" / "animator.safetensors")
    speech = trained / "runs" / "speech_to_motion.safetensors"
    load_speech_to_motion(speech, motion_fingerprint(animator.state_dict()))


def test_a_phase_that_cannot_be_trained_is_said(tmp_path: Path, capfd):
    write_clips(tmp_path / "data", "train", people=1, clips=1, frames=30, size=64, seed=0)
    assert run(tmp_path) == 1
    assert "give a folder of portraits with --portraits" in capfd.readouterr().err
    write_clips(tmp_path / "data" / "made", "train", people=1, clips=1, frames=30, size=64, seed=0)
    assert run(tmp_path) == 1  # there is no valid.jsonl
    said = capfd.readouterr().err
    assert "valid.jsonl" in said and "phase 1_field ended before its last step" in said


@pytest.mark.parametrize(
    "ends, status",
    [("sys.exit(3)", 3), (f"sys.exit({INTERRUPTED})", INTERRUPTED), ("os.abort()", 134),
     ("os.kill(os.getpid(), 15)", TERMINATED)],
)  # fmt: skip
def test_the_status_of_a_training_is_that_of_a_shell(ends: str, status: int):
    assert _run_to_its_end([sys.executable, "-c", f"import os, sys; {ends}"]) == status
