"""`lightning fit --config loki.yaml` trains, resumes bit for bit, and leaves what a run leaves."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from omegaconf import OmegaConf

from mien.cli import main
from mien.data.faces import face_model
from mien.data.windows import as_window
from mien.errors import UserError
from mien.kinds import config_of, read_weights, save_weights, to_float16
from mien.loki.config import LokiConfig
from mien.loki.faces import coefficient_vectors, face_maps
from mien.loki.sampling import LokiSamplingConfig
from mien.loki.weights import LOKI, face_model_record, load_loki, load_loki_and_sampling
from mien.overlays import join_configs
from mien.presets import LOKI_PRESETS
from mien.training.loki import LokiObjectiveConfig, LokiStage
from tests.face_model.faces import coefficients
from tests.loki.tiny import autoencoder, write_faces
from tests.test_fit import differences

CONFIG = ["--config", "loki.yaml", "--config", "loki_tiny.yaml"]
SHORT = ["--trainer.max_steps", "8", "--trainer.val_check_interval", "4"]


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> list[str]:
    return write_faces(tmp_path_factory.mktemp("clips"))


def fit(clips: list[str], folder: Path, *more: str) -> dict[str, Any]:
    where = [*clips, "--trainer.default_root_dir", str(folder)]
    quiet = ["--trainer.enable_progress_bar", "false", "--trainer.logger", "false"]
    assert main(["fit", *CONFIG, *SHORT, *where, *quiet, *more]) == 0
    return torch.load(folder / "last.ckpt", weights_only=True)


@pytest.fixture(scope="module")
def run(clips: list[str], tmp_path_factory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("run")
    return folder, fit(clips, folder)


NARROW = {"window": 2, "channels": [32, 64, 64], "head_dim": 32, "layers": 1}
LATENT = NARROW | {"image_size": 64, "encoder_channels": [8, 8, 8, 8]}


def pretrained_folder(folder: Path) -> Path:
    """A model of Stable Diffusion's kind, narrow and random: unet with text, and vae."""
    autoencoder().save_pretrained(folder / "vae")
    net = UNet2DConditionModel(
        sample_size=8,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        block_out_channels=(32, 64, 64),
        layers_per_block=1,
        cross_attention_dim=16,
        attention_head_dim=(1, 2, 2),
        use_linear_projection=True,
    )
    net.save_pretrained(folder / "unet")
    return folder


@pytest.mark.parametrize(
    ("preset", "precision"),
    [("small", "32-true"), *((name, "bf16-mixed") for name in LOKI_PRESETS if name != "tiny")],
)
def test_every_preset_trains(preset: str, precision: str, clips: list[str], tmp_path: Path):
    """Narrow, but with all its switches; all that is saved must be finite float32. The preset tiny
    is what the other tests train.
    """
    overlay = [] if preset == "small" else [f"loki_{preset}.yaml"]
    config = OmegaConf.create(join_configs(["loki.yaml", *overlay]))
    latent = config.model.init_args.loki.space == "latent"
    config.model.init_args.loki.merge_with(LATENT if latent else NARROW | {"image_size": 32})
    if latent:
        folder = str(pretrained_folder(tmp_path / "model"))
        config.model.init_args.loki.autoencoder = folder
        if config.model.init_args.loki.pretrained:
            config.model.init_args.loki.pretrained = folder
    if preset != "small":
        config.model.init_args.loki.channels = [32, 64, 64]
    if not latent:
        config.model.init_args.loki.encoder_channels = [8, 8, 8]
    config.model.init_args.sampling.steps = 2
    config.data.init_args.merge_with({"batch_size": 2, "workers": 0, "valid_clips": 2})
    config.trainer.merge_with({"max_steps": 2, "val_check_interval": 2, "accelerator": "cpu"})
    config.trainer.precision = precision
    path = tmp_path / "preset.yaml"
    OmegaConf.save(config, path)
    where = [*clips, "--trainer.default_root_dir", str(tmp_path), "--trainer.logger", "false"]
    quiet = ["--trainer.enable_progress_bar", "false"]
    assert main(["fit", "--config", str(path), *where, *quiet]) == 0
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert saved["global_step"] == 2 and saved["skipped_steps"] == 0
    values = [v for v in saved["state_dict"].values() if v.is_floating_point()]
    assert all(v.dtype == torch.float32 and bool(v.isfinite().all()) for v in values)
    frozen = [v for k, v in saved["state_dict"].items() if "reference_backbone" in k]
    assert bool(frozen) == (preset == "sd21")
    if frozen:  # still the pretrained weights, unlike the backbone
        read = UNet2DConditionModel.from_pretrained(tmp_path / "model" / "unet").state_dict()
        for part, same in (("reference_backbone", True), ("backbone", False)):
            weight = saved["state_dict"][f"loki.{part}.unet.conv_out.weight"]
            assert torch.equal(weight, read["conv_out.weight"]) == same


def test_four_and_four_steps_equal_eight(clips: list[str], run, tmp_path: Path):
    straight = run[1]
    half = fit(clips, tmp_path, "--trainer.max_steps", "4")
    resumed = fit(clips, tmp_path, "--ckpt_path", str(tmp_path / "last.ckpt"))
    assert half["global_step"] == 4 and resumed["global_step"] == 8
    for part in ("state_dict", "current_model_state", "optimizer_states", "averaging_state"):
        assert straight[part], part
        assert not differences(straight[part], resumed[part]), part
    assert straight["fingerprint"] == resumed["fingerprint"] != half["fingerprint"]


def test_run_leaves_strips_and_weights_that_load(run):
    folder, saved = run
    assert len(list(folder.glob("previews/*.png"))) == 2
    net, sampling = load_loki_and_sampling(folder / "last.ckpt")
    assert sampling == LokiSamplingConfig(steps=3) != LokiSamplingConfig()
    for name, value in net.state_dict().items():
        assert torch.equal(value, saved["state_dict"][f"loki.{name}"])
    assert saved["skipped_steps"] == 0


def test_weights_are_bound_to_the_face_model_of_their_maps(run, tmp_path, monkeypatch):
    folder, saved = run
    assert saved["face_model"] == face_model_record()
    shipped, older = tmp_path / "loki.safetensors", tmp_path / "older.safetensors"
    weights = to_float16(read_weights(folder / "last.ckpt"))
    save_weights(shipped, weights)
    save_weights(older, replace(weights, face_model=None, sampling=None))
    assert load_loki_and_sampling(shipped)[1] == LokiSamplingConfig(steps=3)
    assert load_loki_and_sampling(older)[1] == LokiSamplingConfig(temperature=1.0)
    wrong = tmp_path / "wrong.safetensors"
    for settings in ({"steps": 0}, {"strides": 3}):
        save_weights(wrong, replace(weights, sampling=settings))
        with pytest.raises(UserError, match="wrong.safetensors has sampling settings that"):
            load_loki(wrong)
    monkeypatch.setattr("mien.loki.weights.OFFSET_DEVIATION", 0.2)
    for path in (folder / "last.ckpt", shipped, older):
        with pytest.raises(UserError, match=rf"{path.name} was trained on maps .*0\.124 cm"):
            load_loki(path)
    with pytest.raises(UserError, match="the checkpoint was trained on maps"):
        LokiStage(config_of(LOKI, saved["config"])).refuse_checkpoint(dict(saved), None)


def test_larger_patches_start_from_the_weights_of_smaller_ones(run, clips: list[str], tmp_path):
    larger = ["--model.loki.image_size", "64", "--model.loki.patch", "8"]
    start = ["--model.initial_weights", str(run[0] / "last.ckpt")]
    saved = fit(clips, tmp_path, *larger, *start)
    before, after = run[1]["state_dict"], saved["state_dict"]
    assert after["loki.backbone.unet.conv_in.conv.weight"].shape[1] == 3 * 8**2
    inner = "loki.backbone.unet.mid_block.resnets.0.conv1.weight"
    assert before[inner].std() > 0.01  # random weights of another start would lie that far off
    assert (before[inner] - after[inner]).abs().max() < 0.005


def test_the_mouth_and_the_eyes_weigh_more(clips: list[str]):
    """Where they are: of a face in the middle, below the middle and at both sides above it."""
    stage = LokiStage(LokiConfig(), LokiObjectiveConfig(face=0.0, mouth_and_eyes=2.0))
    faces = coefficients(face_model(), t=5, seed=0)
    faces = replace(faces, rotation=0 * faces.rotation, expression=0 * faces.expression)
    maps = face_maps(face_model(), faces, 64, "neutral")
    pictures, values = torch.zeros(5, 3, 64, 64), coefficient_vectors(faces)
    window = as_window(pictures, maps, values)
    weight = stage._weight(window)[0]
    assert weight.shape == (4, 16, 16) and weight.min() == 1 and 1.7 < weight.max() <= 3
    covered = maps[:-1, 6]
    for row, face in zip(weight, covered, strict=True):
        y, x = torch.nn.functional.adaptive_avg_pool2d(face[None], 16)[0].nonzero().float().T
        middle, heaviest = x.mean(), (row == row.max()).nonzero()[0]
        assert abs(heaviest[1] - middle) < 1.5 and heaviest[0] > y.mean()  # the mouth
        upper = row[: int(y.mean()) + 1] - 1
        left, right = upper[:, : int(middle)].max(), upper[:, int(middle) + 1 :].max()
        assert min(left, right) > 0.2 and upper[:, int(middle.round())].max() < min(left, right)
    flat = LokiStage(LokiConfig(), LokiObjectiveConfig(face=0.0))._weight(window)
    assert torch.equal(flat, torch.ones_like(flat))


def test_weights_of_mouth_and_eyes_need_neutral_positions():
    with pytest.raises(ValueError, match="mouth_and_eyes 2.0 needs the positions neutral"):
        LokiStage(LokiConfig(positions="projected"), LokiObjectiveConfig(mouth_and_eyes=2.0))
