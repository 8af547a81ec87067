"""`lightning fit --config loki.yaml` trains, resumes bit for bit, and leaves what a run leaves."""

from pathlib import Path
from typing import Any

import pytest
import torch

from mien.cli import main
from mien.loki.weights import load_loki
from tests.loki.tiny import write_faces
from tests.test_fit import differences

CONFIG = ["--config", "loki.yaml", "--config", "loki_tiny.yaml"]


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> list[str]:
    return write_faces(tmp_path_factory.mktemp("clips"))


def fit(clips: list[str], folder: Path, *more: str) -> dict[str, Any]:
    where = [*clips, "--trainer.default_root_dir", str(folder)]
    quiet = ["--trainer.enable_progress_bar", "false", "--trainer.logger", "false"]
    assert main(["fit", *CONFIG, *where, *quiet, *more]) == 0
    return torch.load(folder / "last.ckpt", weights_only=True)


@pytest.fixture(scope="module")
def run(clips: list[str], tmp_path_factory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("run")
    return folder, fit(clips, folder)


def test_ten_and_ten_steps_equal_twenty(clips: list[str], run, tmp_path: Path):
    straight = run[1]
    half = fit(clips, tmp_path, "--trainer.max_steps", "10")
    resumed = fit(clips, tmp_path, "--ckpt_path", str(tmp_path / "last.ckpt"))
    assert half["global_step"] == 10 and resumed["global_step"] == 20
    for part in ("state_dict", "current_model_state", "optimizer_states", "averaging_state"):
        assert straight[part], part
        assert not differences(straight[part], resumed[part]), part
    assert straight["fingerprint"] == resumed["fingerprint"] != half["fingerprint"]


def test_run_leaves_strips_and_weights_that_load(run):
    folder, saved = run
    assert len(list(folder.glob("previews/*.png"))) == 2
    net = load_loki(folder / "last.ckpt")
    for name, value in net.state_dict().items():
        assert torch.equal(value, saved["state_dict"][f"loki.{name}"])
    assert saved["skipped_steps"] == 0
