"""The files of configs/ say what the code says, and overlays mean what they say."""

import inspect
import json
import subprocess
import sys
from dataclasses import asdict, is_dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from jsonargparse import ArgumentParser
from omegaconf import OmegaConf
from torch.utils.flop_counter import FlopCounterMode

from mien.audio.features import FPS
from mien.checkpoint import default_weights
from mien.cli import main
from mien.config import restore
from mien.data.augment import AugmentConfig
from mien.data.speech import VoiceConfig
from mien.data.windows import WindowAugmentConfig
from mien.errors import UserError
from mien.kinds import read_weights
from mien.loki.config import LokiConfig
from mien.loki.sampling import LokiSamplingConfig
from mien.motion.objective import SpeechObjectiveConfig
from mien.motion.sampling import SamplingConfig
from mien.motion.speech_to_motion import SpeechToMotionConfig
from mien.overlays import FOLDER, find_config, join_configs
from mien.portrait.animator import Animator, AnimatorConfig
from mien.presets import LOKI_PRESETS, PRESETS
from mien.training.discriminator import DiscriminatorConfig
from mien.training.loki import LokiObjectiveConfig
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
        "model.init_args.sampling": SamplingConfig,
        "data.init_args.voice": VoiceConfig,
    },
    "loki": {
        "model.init_args.loki": LokiConfig,
        "model.init_args.objective": LokiObjectiveConfig,
        "model.init_args.optimizer": OptimizerConfig,
        "model.init_args.sampling": LokiSamplingConfig,
        "data.init_args.augmentation": WindowAugmentConfig,
    },
}
STAGES = "stage1", "stage2"  # of the first system
OVERLAYS = sorted(path.name for path in FOLDER.glob("*.yaml") if path.stem not in SECTIONS)
OF_BOTH = "prepare.yaml", "wandb.yaml"  # have no section of a stage
OF_LOKI = [overlay for overlay in OVERLAYS if overlay.startswith("loki_")]
OF_STAGE1 = "small_1_field.yaml", "small_2_guide.yaml", "small_3_made.yaml"
FITTING = [
    (stage, overlay)
    for stage in SECTIONS
    for overlay in OVERLAYS
    if overlay in OF_BOTH
    or (overlay in OF_LOKI) == (stage == "loki")
    and not (overlay in OF_STAGE1 and stage == "stage2")
]


def joined(*names: str):
    return OmegaConf.create(join_configs(list(names)))


# The file names what stage 1 writes; in Python the animator that ships is the default.
PLACES = {("stage2", "animator")}


def plain(value: Any) -> Any:
    """As YAML holds it."""
    value = asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
    return json.loads(json.dumps(value, default=str))


@pytest.mark.parametrize("stage", SECTIONS)
def test_base_config_says_every_number_as_python_does(stage: str):
    config = OmegaConf.to_container(joined(f"{stage}.yaml"))
    assert isinstance(config, dict)
    parts = [config["model"], config["data"], *config["trainer"]["callbacks"]]
    for part in parts:
        module, name = part["class_path"].rsplit(".", 1)
        parameters = inspect.signature(getattr(import_module(module), name)).parameters
        defaults = {
            key: plain(parameter.default)
            for key, parameter in parameters.items()
            if parameter.default is not parameter.empty
        }
        asked = [key for key, value in parameters.items() if value.default is value.empty]
        written = {key: value for key, value in part["init_args"].items() if key not in asked}
        defaults.pop("spec", None)  # the command line links it to the model
        for key in (key for place, key in PLACES if place == stage and key in written):
            assert defaults.pop(key) != written.pop(key)
        if "mix" in defaults:  # a signature cannot hold a dictionary
            assert defaults.pop("mix") is None and written.pop("mix") == {}
        assert written == defaults, part["class_path"]


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_in_python_is_what_the_command_line_makes_of_its_files(preset: str, stage: str):
    config = joined(f"{stage}.yaml", f"{preset}.yaml")
    for place, cls in SECTIONS[stage].items():
        if cls is VoiceConfig:  # no preset says anything about voices
            assert OmegaConf.select(config, place) == OmegaConf.create(plain(VoiceConfig()))
            continue
        parser = ArgumentParser(exit_on_error=False)
        parser.add_argument("--numbers", type=cls)
        section = OmegaConf.to_container(OmegaConf.select(config, place))
        parsed = parser.instantiate(parser.parse_object({"numbers": section})).numbers
        more = (stage,) if cls is OptimizerConfig else ()
        assert parsed == cls.preset(preset, *more), place


@pytest.mark.parametrize("preset", LOKI_PRESETS)
def test_presets_of_loki_are_their_files(preset: str):
    first = preset == LOKI_PRESETS[0]
    config = joined("loki.yaml") if first else joined("loki.yaml", f"loki_{preset}.yaml")
    section = OmegaConf.to_container(config.model.init_args.loki)
    assert plain(LokiConfig.preset(preset)) == section
    assert first == (LokiConfig.preset(preset) == LokiConfig())


def test_presets_differ_and_small_is_what_ships():
    nets = [AnimatorConfig.preset(name) for name in PRESETS]
    speaking = [SpeechToMotionConfig.preset(name) for name in PRESETS]
    assert len(set(nets)) == len(PRESETS), "no preset repeats another"
    # base512 draws larger, with the same stage 2.
    assert len(set(speaking)) == len(PRESETS) - 1
    for cls, path in zip((AnimatorConfig, SpeechToMotionConfig), default_weights(), strict=True):
        assert cls.preset("small") == restore(cls, read_weights(path).config)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_overlay_changes_something(overlay: str):
    stages = [stage for stage, other in FITTING if other == overlay]
    assert any(joined(f"{s}.yaml", overlay) != joined(f"{s}.yaml") for s in stages)


@pytest.mark.parametrize(
    "base, overlay, advice",
    [
        ("loki.yaml", "tiny.yaml", "take loki_tiny.yaml"),
        ("loki.yaml", "base512.yaml", "leave it out"),
        ("stage1.yaml", "loki_tiny.yaml", "take tiny.yaml"),
        ("stage2.yaml", "loki_sd21.yaml", "leave it out"),
        ("stage2.yaml", "small_1_field.yaml", "leave it out"),
    ],
)
def test_an_overlay_of_another_stage_is_refused(base: str, overlay: str, advice: str):
    with pytest.raises(UserError, match=f"{overlay} has no section for .*: {advice}"):
        joined(base, overlay)


def test_presets_come_from_the_package_and_need_no_trainer(tmp_path):
    (tmp_path / "base.yaml").write_text("stage1: {model: {init_args: {animator: {regions: 3}}}}")
    code = (
        "import sys; from mien.portrait.animator import AnimatorConfig; "
        "from mien.training.losses import LossConfig; LossConfig.preset('paper'); "
        "print(AnimatorConfig.preset('base').regions, "
        "{'lightning', 'jsonargparse'} & sys.modules.keys())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout == "12 set()\n"


def test_an_unknown_preset_is_named():
    with pytest.raises(UserError, match="no preset huge: the presets are tiny, small, base"):
        AnimatorConfig.preset("huge")


@pytest.mark.parametrize("stage, overlay", FITTING)
def test_every_overlay_gives_valid_numbers(stage: str, overlay: str):
    config = joined(f"{stage}.yaml", overlay)
    assert not set(SECTIONS) & set(config)
    for place, cls in SECTIONS[stage].items():
        section = OmegaConf.to_container(OmegaConf.select(config, place))
        assert is_dataclass(restore(cls, section))


def test_stages_of_an_overlay_fit_each_other():
    for overlay in sorted(set(OVERLAYS) - {*OF_LOKI, *OF_STAGE1}):
        first = joined("stage1.yaml", overlay).model.init_args.animator
        second = joined("stage2.yaml", overlay).model.init_args.speech
        assert first.appearance_dim == second.appearance_dim, overlay


# The front end of each preset, and whether Mamba-l is taught by a head of its own.
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
    first, second = (joined(f"{stage}.yaml", str(overlay)) for stage in STAGES)
    assert (first.data.init_args.batch_size, first.trainer.max_steps) == (3, 6)
    assert (second.data.init_args.batch_size, second.trainer.max_steps) == (4, 5)


def test_later_files_win(tmp_path):
    for name, steps in (("a", 1), ("b", 2)):
        (tmp_path / f"{name}.yaml").write_text(f"trainer: {{max_steps: {steps}}}")
    config = joined("stage1.yaml", str(tmp_path / "a.yaml"), str(tmp_path / "b.yaml"))
    assert config.trainer.max_steps == 2


def test_a_file_that_is_named_twice_wins_where_it_comes_last(tmp_path: Path):
    files = {}
    for name, shift in (("a", 0.5), ("b", 0.7)):
        path = tmp_path / f"{name}.yaml"
        path.write_text(f"loki: {{model: {{init_args: {{loki: {{shift: {shift}}}}}}}}}")
        files[name] = str(path)
    last = joined("loki.yaml", files["a"], files["b"], files["a"])
    assert last.model.init_args.loki.shift == 0.5


def test_an_overlay_over_one_of_another_stage_is_refused(tmp_path: Path):
    mine = tmp_path / "mine.yaml"
    mine.write_text("over: loki_tiny.yaml\nloki: {trainer: {max_steps: 3}}")
    with pytest.raises(UserError, match="mine.yaml has no section for stage1"):
        joined("stage1.yaml", str(mine))


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
BUDGETS = {"tiny": 0.2, "small": 1.0, "base": 60.0, "base512": 120.0, "paper": 1150.0}


@pytest.mark.parametrize("preset", BUDGETS)
def test_presets_keep_their_budget(preset: str):
    config = AnimatorConfig.preset(preset)
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


@pytest.mark.parametrize(
    ("config", "option"),
    [
        ("stage1.yaml", "model.animator.motion_backbone"),
        ("stage2.yaml", "model.speech.front_end.bundle"),
        ("stage2.yaml", "model.speech.global_encoder"),
        ("loki.yaml", "model.loki.positions"),
        ("loki.yaml", "data.valid_clips"),
    ],
)
def test_null_on_the_command_line_is_no_value(config: str, option: str, capsys):
    with pytest.raises(SystemExit):
        main(["fit", "--config", config, f"--{option}", "null", "--print_config"])
    part, name = option.split(".", 1)
    missing = object()
    printed = OmegaConf.create(capsys.readouterr().out)
    assert OmegaConf.select(printed, f"{part}.init_args.{name}", default=missing) is None
