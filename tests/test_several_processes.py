"""Training on several devices: two processes on this machine's processor, joined by gloo."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from mien.cli import main
from mien.command_line import TERMINATED
from mien.data.drawn import write_clips
from mien.data.loading import SampleNumbers

ROOT = Path(__file__).parents[1]
STAGE1 = ["--config", "stage1.yaml", "--config", "tiny.yaml"]
CRITIC = ["--model.loss.adversarial", "0.1", "--model.loss.adversarial_start", "2"]
TIMEOUT = 240  # seconds, of a run
STEPS = 12


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    write_clips(folder, "train", people=3, clips=1, frames=20, size=64, seed=0)
    write_clips(folder, "valid", people=3, clips=1, frames=20, size=64, seed=1)
    return folder


def options(clips: Path, folder: Path, devices: int, config: list[str], *more: str) -> list[str]:
    probe = ["--trainer.callbacks+=tests.training.probe.Probe"]
    probe += [f"--trainer.callbacks.folder={folder / 'probes'}"]
    return [
        *("fit", *config, *probe),
        *("--data.root", str(clips), "--trainer.default_root_dir", str(folder)),
        *("--trainer.devices", str(devices), "--trainer.enable_progress_bar", "false"),
        *("--trainer.max_steps", str(STEPS), "--trainer.val_check_interval", str(STEPS), *more),
    ]


def command(*asked) -> list[str]:
    return [sys.executable, "-m", "mien", *options(*asked)]


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'src'}", "OMP_NUM_THREADS": "1"}


def run(clips: Path, folder: Path, devices: int, config: list[str], *more: str) -> SimpleNamespace:
    """Train, and return what each process saw and what is saved."""
    done = subprocess.run(
        command(clips, folder, devices, config, *more),
        capture_output=True,
        text=True,
        env=environment(),
        timeout=TIMEOUT,
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return read(folder, devices)


def read(folder: Path, devices: int) -> SimpleNamespace:
    probes = [torch.load(folder / "probes" / f"{i}.pt") for i in range(devices)]
    return SimpleNamespace(probes=probes, saved=torch.load(folder / "last.ckpt"))


@pytest.fixture(scope="module")
def two(clips: Path, tmp_path_factory) -> SimpleNamespace:
    return run(clips, tmp_path_factory.mktemp("two"), 2, STAGE1 + CRITIC)


def test_processes_share_the_samples_of_one(clips: Path, two: SimpleNamespace, tmp_path: Path):
    assert main(options(clips, tmp_path, 1, STAGE1, "--data.batch_size", "4")) == 0
    one = read(tmp_path, 1)
    first, second = (set(probe["samples"]) for probe in two.probes)
    assert len(first) == len(second) == 2 * STEPS and not first & second
    assert first | second == set(one.probes[0]["samples"])


def test_each_draws_noise_of_its_own(two: SimpleNamespace):
    assert not set(two.probes[0]["draws"]) & set(two.probes[1]["draws"])


def test_weights_are_equal_on_both(two: SimpleNamespace):
    """With a discriminator that begins in the middle, so with and without it."""
    first, second = (probe["weights"] for probe in two.probes)
    assert any(name.startswith("discriminator.") for name in first)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_stop_of_one_stops_both_and_what_follows_equals_one_run(
    clips: Path, two: SimpleNamespace, tmp_path: Path
):
    """Only the first process is asked, as a scheduler may do."""
    asked = command(clips, tmp_path, 2, STAGE1 + CRITIC)
    process = subprocess.Popen(
        asked, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment()
    )
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(line)
        if line.startswith("step 3 done"):
            process.send_signal(signal.SIGTERM)
    assert process.wait(TIMEOUT) == TERMINATED
    stopped = read(tmp_path, 2)
    assert "stopped after step" in "".join(said)
    assert 3 <= stopped.saved["global_step"] < STEPS
    seen = [len(probe["samples"]) for probe in stopped.probes]
    assert seen[0] == seen[1]

    again = run(clips, tmp_path, 2, STAGE1 + CRITIC, "--ckpt_path", str(tmp_path / "last.ckpt"))
    # Not to the bit: where gradients lie in the buckets that are sent decides how norms are summed.
    for part in ("state_dict", "current_model_state"):
        straight, resumed = two.saved[part], again.saved[part]
        far = [(straight[name].float() - resumed[name]).abs().max() for name in straight]
        assert max(far) < 1e-4
    assert again.saved["global_step"] == STEPS
    assert two.probes[1]["samples"][seen[1] :] == again.probes[1]["samples"]


def test_sample_numbers_go_on_where_a_run_was_left():
    def some(*given: int) -> list[int]:
        return [number for number, _ in zip(SampleNumbers(*given), range(4), strict=False)]

    assert some(8) == [8, 9, 10, 11]
    assert some(8, 1, 2) == [9, 11, 13, 15]
    assert sorted(some(8, 0, 2) + some(8, 1, 2)) == list(range(8, 16))
