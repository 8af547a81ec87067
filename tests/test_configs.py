"""The files of configs/ say what the code says, and overlays mean what they say."""

from dataclasses import fields, is_dataclass

import pytest
import torch
from omegaconf import OmegaConf
from torch.utils.flop_counter import FlopCounterMode

from mien.audio.features import FPS
from mien.config import restore
from mien.data.augment import AugmentConfig
from mien.data.speech import VoiceConfig
from mien.errors import UserError
from mien.motion.objective import SpeechObjectiveConfig
from mien.motion.speech_to_motion import SpeechToMotionConfig
from mien.overlays import FOLDER, find_config, join_configs
from mien.portrait.animator import Animator, AnimatorConfig
from mien.training.discriminator import DiscriminatorConfig
from mien.training.losses import LossConfig
from mien.training.optimization import OptimizerConfig

SECTIONS = {
    "stage1": {
        "model.init_args.animator": AnimatorConfig,
        "model.init_args.loss": LossConfig,
        "model.init_args.optimizer": OptimizerConfig,
        "model.init_args.discriminator": DiscriminatorConfig,
        "data.init_args.augmentation": AugmentConfig,
    },
    "stage2": {
        "model.init_args.speech": SpeechToMotionConfig,
        "model.init_args.objective": SpeechObjectiveConfig,
        "model.init_args.optimizer": OptimizerConfig,
        "data.init_args.voice": VoiceConfig,
    },
}
OVERLAYS = sorted(path.name for path in FOLDER.glob("*.yaml") if path.stem not in SECTIONS)


def joined(*names: str):
    return OmegaConf.create(join_configs(list(names)))


@pytest.mark.parametrize("stage", SECTIONS)
def test_base_config_spells_out_every_number(stage: str):
    config = joined(f"{stage}.yaml")
    for place, cls in SECTIONS[stage].items():
        written = set(OmegaConf.select(config, place))
        spare = {"weight_decay"} if cls is OptimizerConfig else set()
        assert {f.name for f in fields(cls)} - spare <= written | spare, place


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("stage", SECTIONS)
def test_every_overlay_gives_valid_numbers(stage: str, overlay: str):
    config = joined(f"{stage}.yaml", overlay)
    assert not {"stage1", "stage2"} & set(config)
    for place, cls in SECTIONS[stage].items():
        section = OmegaConf.to_container(OmegaConf.select(config, place))
        assert is_dataclass(restore(cls, section))


def test_base_config_holds_the_preset_small():
    section = OmegaConf.select(joined("stage1.yaml"), "model.init_args.animator")
    assert restore(AnimatorConfig, OmegaConf.to_container(section)) == AnimatorConfig()


def test_stages_of_an_overlay_fit_each_other():
    for overlay in OVERLAYS:
        first = joined("stage1.yaml", overlay).model.init_args.animator
        second = joined("stage2.yaml", overlay).model.init_args.speech
        assert first.appearance_dim == second.appearance_dim, overlay


# What each preset hears with, and whether Mamba-l is taught by a head of its own.
EARS = {
    "small": ("whisper2", 384, True),
    "base": ("whisper2", 384, True),
    "base512": ("whisper2", 384, True),
    "tiny": (None, 80, True),
    "paper": (None, 80, False),
}


@pytest.mark.parametrize("preset", EARS)
def test_presets_hear_with_their_ears(preset: str):
    speech = joined("stage2.yaml", f"{preset}.yaml").model.init_args.speech
    assert (speech.front_end.bundle, speech.front_end.dims, speech.direct_head) == EARS[preset]


def test_section_of_the_other_stage_is_dropped(tmp_path):
    overlay = tmp_path / "mine.yaml"
    overlay.write_text(
        "trainer: {max_steps: 5}\n"
        "stage1: {trainer: {max_steps: 6}, data: {init_args: {batch_size: 3}}}\n"
        "stage2: {data: {init_args: {batch_size: 4}}}\n"
    )
    first, second = (joined(f"{stage}.yaml", str(overlay)) for stage in SECTIONS)
    assert (first.data.init_args.batch_size, first.trainer.max_steps) == (3, 6)
    assert (second.data.init_args.batch_size, second.trainer.max_steps) == (4, 5)


def test_later_files_win(tmp_path):
    for name, steps in (("a", 1), ("b", 2)):
        (tmp_path / f"{name}.yaml").write_text(f"trainer: {{max_steps: {steps}}}")
    config = joined("stage1.yaml", str(tmp_path / "a.yaml"), str(tmp_path / "b.yaml"))
    assert config.trainer.max_steps == 2


def test_overlay_alone_asks_for_its_base():
    with pytest.raises(UserError, match="tiny.yaml is an overlay"):
        join_configs(["tiny.yaml"])


def test_file_in_the_working_directory_goes_before_configs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_config("stage1.yaml") == FOLDER / "stage1.yaml"
    (tmp_path / "stage1.yaml").write_text("trainer: {}")
    assert find_config("stage1.yaml").resolve() == tmp_path / "stage1.yaml"


@pytest.mark.parametrize("name", ["none.yaml", "elsewhere/stage1.yaml"])
def test_missing_config_is_named(name: str):
    with pytest.raises(UserError, match=name):
        find_config(name)


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: [1,\n", "\x00\x01"])
def test_broken_config_is_named(tmp_path, text: str):
    broken = tmp_path / "broken.yaml"
    broken.write_text(text)
    with pytest.raises(UserError, match=r"broken\.yaml"):
        join_configs([str(broken)])


def test_file_is_laid_over_the_one_it_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, text in (
        ("one", "trainer: {max_steps: 1, devices: 7}"),
        ("two", "over: one.yaml\ntrainer: {max_steps: 2}"),
        ("three", "over: two.yaml\nstage1: {trainer: {max_epochs: 3}}"),
    ):
        (tmp_path / f"{name}.yaml").write_text(text)
    trainer = joined("stage1.yaml", "three.yaml").trainer
    assert (trainer.max_steps, trainer.devices, trainer.max_epochs) == (2, 7, 3)


# GFLOP a generated frame that each preset may take (1 MAC = 2 FLOP): motion encoder and renderer,
# a second drawn together (what depends on the source alone is counted once for them).
BUDGETS = {"tiny": 0.2, "small": 4.0, "base": 60.0, "base512": 120.0, "paper": 1150.0}


@pytest.mark.parametrize("preset", BUDGETS)
def test_presets_keep_their_budget(preset: str):
    section = OmegaConf.select(joined("stage1.yaml", f"{preset}.yaml"), "model.init_args.animator")
    config = restore(AnimatorConfig, OmegaConf.to_container(section))
    with torch.device("meta"):
        animator = Animator(config).eval()
        source = torch.zeros(1, 3, config.image_size, config.image_size)
    with torch.no_grad():
        appearance, motion = animator.encode_appearance(source), animator.encode_motion(source)
        with FlopCounterMode(display=False) as counter:
            driving = animator.encode_motion(source.expand(FPS, -1, -1, -1))
            animator.draw(appearance, motion, driving[None])
    gflop = counter.get_total_flops() / FPS / 1e9
    assert gflop <= BUDGETS[preset]
    assert config.image_size == {"tiny": 64, "base512": 512}.get(preset, 256)
