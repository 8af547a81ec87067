"""Both real configs, made tiny, on drawn clips: fit, resume, validate, all the way to a film."""

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from mien.checkpoint import ANIMATOR, load_animator, load_speech_to_motion, motion_fingerprint
from mien.cli import main
from mien.data.drawn import write_clips
from mien.errors import UserError
from mien.kinds import fingerprint, read_weights, save_weights, to_float16
from mien.media import probe_video, read_video
from mien.mesh.motion import MESH_DIM
from mien.pipeline import animate
from tests.tiny_nets import voice, write_wav

# With a discriminator that begins in the middle: two optimisers, one without state at first.
STAGE1 = [
    *("--config", "stage1.yaml", "--config", "tiny.yaml"),
    *("--model.loss.adversarial", "0.1", "--model.loss.adversarial_start", "5"),
]
STAGE2 = [
    *("--config", "stage2.yaml", "--config", "tiny.yaml"),
    *("--model.sampling.sampler", "ddim", "--model.sampling.steps", "3"),
]


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    write_clips(folder, "train", people=3, clips=2, frames=30, size=64, seed=0)
    write_clips(folder, "valid", people=2, clips=1, frames=30, size=64, seed=1)
    return folder


Fit = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def motion(tmp_path_factory) -> Path:
    """Where all runs keep the motion of the clips: reading it takes longer than a short run."""
    return tmp_path_factory.mktemp("motion")


@pytest.fixture(scope="module")
def fit(clips: Path, motion: Path) -> Fit:
    """Train into a folder and return what its last.ckpt holds."""

    def run(folder: Path, config: list[str], *more: str) -> dict[str, Any]:
        if "stage2.yaml" in config:
            more = (*more, "--data.cache", str(motion))
        common = ["--data.root", str(clips), "--trainer.default_root_dir", str(folder)]
        quiet = ["--trainer.enable_progress_bar", "false"]
        assert main(["fit", *config, *common, *quiet, *more]) == 0
        return torch.load(folder / "last.ckpt", weights_only=True)

    return run


@pytest.fixture(scope="module")
def stage1(fit: Fit, tmp_path_factory) -> SimpleNamespace:
    folder = tmp_path_factory.mktemp("stage1")
    return SimpleNamespace(folder=folder, saved=fit(folder, STAGE1), path=folder / "last.ckpt")


@pytest.fixture(scope="module")
def stage2(fit: Fit, stage1: SimpleNamespace, tmp_path_factory) -> SimpleNamespace:
    folder = tmp_path_factory.mktemp("stage2")
    saved = fit(folder, STAGE2, "--data.animator", str(stage1.path))
    return SimpleNamespace(folder=folder, saved=saved, path=folder / "last.ckpt")


def differences(a: Any, b: Any, place: str = "") -> list[str]:
    """Where two nests of dictionaries, lists, tensors and numbers differ in any bit."""
    if isinstance(a, dict) and isinstance(b, dict):
        names = sorted(a.keys() | b.keys(), key=str)
        return [d for n in names for d in differences(a.get(n), b.get(n), f"{place}.{n}")]
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return differences(dict(enumerate(a)), dict(enumerate(b)), place)
    equal = torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b
    return [] if equal else [place]


@pytest.mark.parametrize("stage, steps", [("stage1", 7), ("stage2", 10)])
def test_two_runs_equal_one(
    stage: str, steps: int, request, fit: Fit, stage1: SimpleNamespace, tmp_path: Path
):
    """Also where the first ends in a step in which neither saving nor validation is due."""
    straight = request.getfixturevalue(stage).saved
    if stage == "stage1":
        config, more = STAGE1, ()
    else:
        config, more = STAGE2, ("--data.animator", str(stage1.path))
    half = fit(tmp_path, config, *more, "--trainer.max_steps", str(steps))
    assert half["global_step"] == steps
    resumed = fit(tmp_path, config, *more, "--ckpt_path", str(tmp_path / "last.ckpt"))

    for part in ("state_dict", "current_model_state", "optimizer_states", "averaging_state"):
        assert straight[part], part
        assert not differences(straight[part], resumed[part]), part
    assert differences(half["state_dict"], resumed["state_dict"])
    assert straight["fingerprint"] == resumed["fingerprint"] != half["fingerprint"]


def test_a_new_run_does_not_write_over_an_earlier_one(
    stage1: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """It is refused before anything is done with its data, which are not there."""
    earlier = tmp_path / "last.ckpt"
    shutil.copy(stage1.path, earlier)
    where = ["--data.root", str(tmp_path / "nowhere"), "--trainer.default_root_dir", str(tmp_path)]
    for begun in ([], ["--ckpt_path", "last"], ["--ckpt_path", str(stage1.path)]):
        assert main(["fit", *STAGE1, *where, *begun]) == 1
        assert f"{earlier} is there from an earlier run" in capsys.readouterr().err
        assert earlier.read_bytes() == stage1.path.read_bytes()


def test_step_counter_equals_batches(stage1: SimpleNamespace):
    saved = stage1.saved
    batches = saved["loops"]["fit_loop"]["epoch_loop.batch_progress"]["total"]["processed"]
    assert saved["global_step"] == batches == 20
    animator, discriminator = saved["optimizer_states"]
    assert {float(s["step"]) for s in animator["state"].values()} == {20.0}
    assert {float(s["step"]) for s in discriminator["state"].values()} == {15.0}


def test_a_step_of_several_batches_counts_as_one(fit: Fit, tmp_path: Path):
    five = ["--data.batch_size", "1", "--model.optimizer.accumulate", "5"]
    saved = fit(tmp_path, STAGE1, *five, "--trainer.max_steps", "6")
    loop = saved["loops"]["fit_loop"]["epoch_loop.batch_progress"]["total"]
    assert saved["global_step"] == 6 and loop["processed"] == 30
    animator, discriminator = saved["optimizer_states"]
    assert {float(s["step"]) for s in animator["state"].values()} == {6.0}
    assert {float(s["step"]) for s in discriminator["state"].values()} == {1.0}


def test_averaged_weights_are_the_ones_that_are_loaded(stage1: SimpleNamespace):
    animator = load_animator(stage1.path)
    state = animator.state_dict()
    for name, value in state.items():
        assert torch.equal(value, stage1.saved["state_dict"][f"animator.{name}"])
    now = stage1.saved["current_model_state"]
    assert any(not torch.equal(value, now[f"animator.{name}"]) for name, value in state.items())


def test_run_leaves_strips_and_a_config(stage1: SimpleNamespace):
    assert len(list(stage1.folder.glob("previews/*.png"))) == 2
    assert len(list(stage1.folder.glob("lightning_logs/*/config.yaml"))) == 1


@pytest.mark.parametrize("stage", ["stage1", "stage2"])
def test_the_best_checkpoint_is_kept_and_loads(stage: str, request):
    run = request.getfixturevalue(stage)
    kept = sorted(path.name for path in (run.folder / "checkpoints").iterdir())
    assert kept[1:] == ["step-0000010.ckpt", "step-0000020.ckpt"]
    [best] = (run.folder / "checkpoints").glob("best-*.ckpt")
    load = load_animator if stage == "stage1" else load_speech_to_motion
    assert all(bool(value.isfinite().all()) for value in load(best).state_dict().values())


@pytest.mark.parametrize("command", ["validate", "test", "predict"])
@pytest.mark.parametrize("stage", ["stage1", "stage2"])
@pytest.mark.real_world("commands")
def test_checkpoints_are_judged_by_the_same_config(
    command: str, stage: str, request, clips: Path, motion: Path, stage1, tmp_path, capsys
):
    run = request.getfixturevalue(stage)
    arguments = [
        command,
        *(STAGE1 if stage == "stage1" else STAGE2),
        *("--data.root", str(clips), "--trainer.default_root_dir", str(tmp_path)),
        *("--ckpt_path", str(run.path), "--trainer.enable_progress_bar", "false"),
    ]
    if stage == "stage2":
        arguments += ["--data.animator", str(stage1.path), "--data.cache", str(motion)]
    assert main(arguments) == 0
    wanted = {"validate": "val/", "test": "test/", "predict": ""}[command]
    score = "psnr_copy" if stage == "stage1" else "loss_other_speech"
    if command != "predict":
        assert f"{wanted}{score}" in capsys.readouterr().out
        return
    written = sorted((tmp_path / "predictions").iterdir())
    assert written and not list(tmp_path.glob("predictions/.*"))
    if stage == "stage1":
        with Image.open(written[0]) as picture:
            assert picture.width == 3 * 64 and picture.height % 64 == 0
        return
    drawn = load_file(written[0])["motion"]
    assert drawn.ndim == 3 and drawn.shape[-1] == 768 + MESH_DIM and bool(drawn.isfinite().all())


def test_larger_pictures_start_from_smaller(fit: Fit, stage1: SimpleNamespace, tmp_path: Path):
    saved = fit(
        tmp_path,
        STAGE1,
        *("--model.animator.image_size", "96", "--trainer.max_steps", "1"),
        *("--model.initial_weights", str(stage1.path), "--model.optimizer.learning_rate", "0"),
    )
    assert saved["config"]["image_size"] == 96
    name = next(n for n in saved["state_dict"] if n.startswith("animator.") and "weight" in n)
    assert torch.equal(saved["state_dict"][name], stage1.saved["state_dict"][name])


def test_a_decoder_is_left_out_and_added(fit: Fit, stage1: SimpleNamespace, tmp_path: Path):
    def started(folder: str, weights: Path, decoder: str) -> dict[str, torch.Tensor]:
        options = [
            *("--model.initial_weights", str(weights), "--model.animator.decoder", decoder),
            *("--trainer.max_steps", "1", "--model.optimizer.learning_rate", "0"),
        ]
        return fit(tmp_path / folder, STAGE1, *options)["state_dict"]

    def drawing(state: dict[str, torch.Tensor]) -> set[str]:
        return {name for name in state if name.startswith("animator.frame_decoder.")}

    before = stage1.saved["state_dict"]
    without = started("without", stage1.path, "none")
    assert drawing(before) and not drawing(without)
    motion = [name for name in without if name.startswith("animator.motion_encoder.")]
    assert motion and all(torch.equal(without[name], before[name]) for name in motion)
    again = started("again", tmp_path / "without" / "last.ckpt", "residual")
    assert drawing(again) == drawing(before)


def test_a_pretrained_ear_hears_the_clips_once(
    clips: Path, stage1: SimpleNamespace, tmp_path: Path
):
    """Whisper's layers in place of log-mel: kept beside the motion, and not written again."""
    asked = ["fit", *STAGE2, "--data.root", str(clips), "--data.animator", str(stage1.path)]
    asked += ["--model.speech.front_end.bundle", "whisper2", "--model.speech.front_end.dims", "384"]
    asked += ["--data.cache", str(tmp_path / "motion"), "--trainer.max_steps", "1"]
    asked += ["--trainer.enable_progress_bar", "false"]
    kept: dict[Path, int] = {}
    for name in ("one", "two"):
        assert main([*asked, "--trainer.default_root_dir", str(tmp_path / name)]) == 0
        saved = torch.load(tmp_path / name / "last.ckpt", weights_only=True)
        assert saved["state_dict"]["speech.local_encoder.stem.in_proj.weight"].shape[1] == 384
        found = (tmp_path / "motion").glob("*/whisper2-*/*.safetensors")
        times = {path: path.stat().st_mtime_ns for path in found}
        assert len(times) == 8 and kept in ({}, times)
        kept = times


def test_other_numbers_cannot_continue_a_run(stage1: SimpleNamespace, tmp_path: Path, capsys):
    where = ["--data.root", str(tmp_path / "nowhere"), "--ckpt_path", str(stage1.path)]
    arguments = ["fit", *STAGE1, *where]
    arguments += ["--trainer.default_root_dir", str(tmp_path), "--trainer.max_steps", "30"]
    assert main([*arguments, "--model.animator.max_displacement", "0.4"]) == 1
    printed = "error: the checkpoint has max_displacement 0.5, the config says 0.4"
    assert printed in capsys.readouterr().err


def test_other_animator_is_refused(
    stage1: SimpleNamespace, stage2: SimpleNamespace, clips: Path, tmp_path: Path, capsys
):
    weights = read_weights(stage1.path, ANIMATOR)
    state = {name: value + 1 for name, value in weights.state.items()}
    other = tmp_path / "other.safetensors"
    changed = type(weights)(weights.kind, weights.config, state, fingerprint(state))
    save_weights(other, changed)
    known, foreign = (motion_fingerprint(w.state) for w in (weights, changed))
    with pytest.raises(UserError, match=f"{known}.*{foreign}"):
        load_speech_to_motion(stage2.path, foreign)

    arguments = ["fit", *STAGE2, "--data.root", str(clips), "--data.animator", str(other)]
    arguments += ["--data.cache", str(tmp_path / "motion"), "--ckpt_path", str(stage2.path)]
    assert main([*arguments, "--trainer.default_root_dir", str(tmp_path)]) == 1
    assert foreign in capsys.readouterr().err
    assert not (tmp_path / "motion").exists(), "refused before the motion of all clips is read"


def test_trained_pair_makes_a_film(
    stage1: SimpleNamespace, stage2: SimpleNamespace, clips: Path, tmp_path
):
    shipped = tmp_path / "animator.safetensors"
    save_weights(shipped, to_float16(read_weights(stage1.path)))
    animator = load_animator(shipped)
    speech = load_speech_to_motion(stage2.path, motion_fingerprint(animator.state_dict()))

    frame = read_video(clips / "valid" / "valid-0-0.mp4")[0]
    portrait, film = tmp_path / "portrait.png", tmp_path / "film.mp4"
    Image.fromarray(frame).save(portrait)
    audio = write_wav(tmp_path / "voice.wav", voice(1.2))
    box = (10.0, 10.0, 54.0, 54.0)
    report = animate(audio, portrait, film, animator=animator, speech=speech, box=box)
    assert str(report.sampling).startswith("ddim, 3 steps"), "as the training run's config says"
    info = probe_video(film)
    assert (info.fps, info.width, len(read_video(film))) == (25.0, 64, 30)
