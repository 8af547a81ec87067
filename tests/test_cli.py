"""The commands as a person types them: what they find, and how they say what is wrong."""

import os
import signal
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

from mien.cli import main
from mien.command_line import INTERRUPTED
from mien.data.drawn import write_clips

ROOT = Path(__file__).parents[1]
SCRIPTS = Path(sys.executable).parent
FIT = ["fit", "--config", "stage1.yaml", "--config", "tiny.yaml"]


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    write_clips(folder, "train", people=2, clips=1, frames=20, size=64, seed=0)
    write_clips(folder, "valid", people=1, clips=1, frames=20, size=64, seed=1)
    return folder


def test_lightning_script_trains_from_any_folder(clips: Path, tmp_path: Path):
    """The literal command of the README, in a folder that holds no config."""
    command = [SCRIPTS / "lightning", *FIT, "--data.root", clips, "--trainer.max_steps", "1"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert torch.load(tmp_path / "runs/stage1/last.ckpt", weights_only=True)["global_step"] == 1


def test_ctrl_c_lets_the_step_finish_and_can_be_gone_on_from(clips: Path, tmp_path: Path):
    """Termination is sent to a training in several processes (test_several_processes.py)."""
    command = [sys.executable, "-m", "mien", *FIT, "--data.root", str(clips)]
    command += ["--trainer.max_steps", "100000", "--trainer.val_check_interval", "100000"]
    with subprocess.Popen(
        command,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        # A suite that runs in the background inherits an ignored Ctrl-C; the command must not.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as running:
        assert running.stdout is not None
        said = b""
        while b"train/loss" not in said:  # the progress bar, once steps are being made
            piece = os.read(running.stdout.fileno(), 4096)
            assert piece, said.decode()
            said += piece
        os.kill(running.pid, signal.SIGINT)
        said = (said + running.communicate(timeout=60)[0]).decode()
    assert running.returncode == INTERRUPTED
    assert "Traceback" not in said
    saved = torch.load(tmp_path / "runs/stage1/last.ckpt", weights_only=True)
    assert f"stopped after step {saved['global_step']}; go on with --ckpt_path" in said
    assert saved["global_step"] > 0


def mistakes(clips: Path, folder: Path) -> dict[str, tuple[list[str], list[str]]]:
    """Arguments, and words that the sentence must hold."""
    text = folder / "text.ckpt"
    text.write_text("no checkpoint")
    broken = folder / "broken.jsonl"
    broken.write_text('{"path": 3}\n')
    empty = folder / "empty.jsonl"
    empty.touch()
    wrong = folder / "wrong.yaml"
    wrong.write_text("model:\n  init_args:\n    optimizer:\n      learning_rate: fast\n")
    root = ["--data.root", str(clips)]
    return {
        "no command": (["fid"], ["fid", "fit"]),
        "no config": (["fit", "--config", "stage9.yaml"], ["stage9.yaml"]),
        "overlay alone": (["fit", "--config", "tiny.yaml"], ["tiny.yaml"]),
        "no data": (FIT, ["--data.root", "MIEN_DATA"]),
        "no such folder": ([*FIT, "--data.root", "/nowhere"], ["/nowhere"]),
        "no manifest": (
            [*FIT, *root, "--data.train", "none.jsonl"],
            ["none.jsonl", "mien prepare"],
        ),
        "empty manifest": ([*FIT, *root, "--data.train", str(empty)], ["empty.jsonl"]),
        "broken manifest": ([*FIT, *root, "--data.train", str(broken)], ["broken.jsonl:1"]),
        "unknown option": ([*FIT, *root, "--data.batchsize", "3"], ["no option --data.batchsize:"]),
        "unknown key": (
            [*FIT, *root, "--model.animator.regionz", "3"],
            ["no option --model.animator.regionz:"],
        ),
        "unknown section": ([*FIT, *root, "--modl.x", "3"], ["no option --modl.x:"]),
        "part of an option": ([*FIT, *root, "--trainer.max_step", "3"], ["--trainer.max_step:"]),
        "no base config": (["fit"], ["--config stage1.yaml, stage2.yaml or loki.yaml"]),
        "wrong type": (
            [*FIT, *root, "--data.batch_size", "many"],
            ["error: data.batch_size must be a whole number, not many"],
        ),
        "wrong type in the trainer": (
            [*FIT, *root, "--trainer.max_steps", "many"],
            ["error: trainer.max_steps must be a whole number, not many"],
        ),
        "wrong choice": (
            [*FIT, *root, "--data.start_method", "thread"],
            ["error: data.start_method must be fork or spawn or forkserver or null, not thread"],
        ),
        "wrong type in a config": (
            [*FIT, "--config", str(wrong), *root],
            ["error: model.optimizer.learning_rate must be a number, not fast"],
        ),
        "wrong type in a list": (
            [*FIT, *root, "--model.optimizer.betas", "[1,x]"],
            ["error: each of model.optimizer.betas must be a number, not x"],
        ),
        "a list that is too short": (
            [*FIT, *root, "--model.optimizer.betas", "[0.9]"],
            ["error: model.optimizer.betas must be a list of 2, not [0.9]"],
        ),
        "a section that is none": (
            [*FIT, *root, "--model.optimizer", "5"],
            ["error: model.optimizer cannot be 5"],
        ),
        "no class": ([*FIT, *root, "--trainer.logger", "foo"], ["trainer.logger cannot be foo"]),
        "no such class": (
            [*FIT, *root, "--model.class_path", "mien.training.loki.Nope"],
            ["model cannot be mien.training.loki.Nope: module", "has no attribute"],
        ),
        "unknown key of a section": (
            ["fit", "--config", "stage2.yaml", *root, "--model.speech.local_encoder.depth", "3"],
            ["no option --model.speech.local_encoder.depth:"],
        ),
        "wrong devices": ([*FIT, *root, "--trainer.devices", "all"], ["trainer", "devices"]),
        "no devices": ([*FIT, *root, "--trainer.devices", "0"], ["trainer", "devices='0'"]),
        "wrong accelerator": ([*FIT, *root, "--trainer.accelerator", "3"], ["trainer", "cpu"]),
        "numbers that do not fit": (
            [*FIT, *root, "--model.animator.deviation_heads", "3"],
            ["deviation_width 32", "deviation_heads 3"],
        ),
        "no checkpoint": ([*FIT, *root, "--ckpt_path", "none.ckpt"], ["none.ckpt"]),
        "text checkpoint": ([*FIT, *root, f"--ckpt_path={text}"], ["text.ckpt"]),
        "no first stage": (
            ["fit", "--config", "stage2.yaml", "--config", "tiny.yaml", *root],
            ["runs/stage1/last.ckpt"],
        ),
        "foreign weights": (
            [*FIT, *root, "--model.initial_weights", str(text)],
            ["text.ckpt", "not a checkpoint"],
        ),
    }


@pytest.mark.parametrize("mistake", mistakes(Path(), Path("/tmp")))
def test_mistakes_get_one_sentence_and_leave_nothing(
    mistake: str, clips: Path, tmp_path: Path, monkeypatch, capsys
):
    monkeypatch.delenv("MIEN_DATA", raising=False)
    arguments, words = mistakes(clips, tmp_path)[mistake]
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)

    assert main(arguments) == 1
    printed = capsys.readouterr().err.splitlines()
    sentence = next(line for line in printed if line.startswith("error: "))
    assert printed[-1] == sentence
    for word in words:
        assert word in sentence
    assert not list(here.iterdir())


def test_data_root_may_come_from_the_environment(clips: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("MIEN_DATA", str(clips))
    steps = ["--trainer.max_steps", "1", "--trainer.default_root_dir", str(tmp_path)]
    assert main([*FIT, *steps]) == 0


def test_help_names_the_commands(capsys):
    assert main([]) == main(["--help"]) == 0
    said = capsys.readouterr().out
    assert all(word in said for word in ("infer", "fit", "validate", "--data.root"))


@pytest.mark.real_world("commands")
def test_the_version_is_told(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == f"mien {version('mien')}"


@pytest.mark.real_world("commands")
def test_without_wandb_the_message_says_what_to_install(monkeypatch, tmp_path, capsys):
    import lightning.pytorch.loggers.wandb as loggers
    from lightning_utilities.core.imports import RequirementCache

    monkeypatch.setattr(loggers, "_WANDB_AVAILABLE", RequirementCache("wandb>=999"))
    asked = ["fit", "--config", "stage1.yaml", "--config", "tiny.yaml", "--config", "wandb.yaml"]
    assert main([*asked, "--data.root", str(tmp_path)]) == 1
    assert 'pip install "mien[wandb]"' in capsys.readouterr().err


@pytest.mark.parametrize("tool", sorted(p.name for p in (ROOT / "tools").glob("*.py")))
@pytest.mark.real_world("commands")
def test_tools_can_be_executed(tool: str):
    path = ROOT / "tools" / tool
    assert os.access(path, os.X_OK)
    assert path.read_text().startswith("#!/usr/bin/env python\n")
