"""Data modules work on what the net's module says of it, without the net, and on its framing."""

from dataclasses import replace
from pathlib import Path

import pytest

from mien import data
from mien.checkpoint import ANIMATOR, load_animator
from mien.cli import main
from mien.data.augment import AugmentConfig
from mien.data.drawn import write_clips
from mien.data.manifest import read_manifest, write_manifest
from mien.data.portrait_data import PortraitData
from mien.data.specs import PortraitSpec, SpeechSpec
from mien.data.speech_data import SpeechData
from mien.errors import UserError
from mien.motion.objective import SpeechObjectiveConfig
from mien.portrait.animator import Animator
from mien.training.losses import LossConfig
from mien.training.optimization import OptimizerConfig
from mien.training.stage1 import ReconstructionStage
from mien.training.stage2 import DiffusionStage
from tests.portrait.tiny import TINY, tiny_animator
from tests.tiny_nets import TINY_SPEECH, save_net

SPEC = PortraitSpec(64, temporal_context=1)


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    for name in ("train", "valid"):
        write_clips(folder, name, people=1, clips=1, frames=24, size=64, seed=0)
    return folder


@pytest.fixture
def half_bodies(clips: Path, tmp_path: Path) -> Path:
    """A manifest that says so of the same clips."""
    path = tmp_path / "half.jsonl"
    records = read_manifest(clips / "train.jsonl")
    write_manifest(path, [replace(record, framing="half_body") for record in records])
    return path


def test_pairs_are_made_without_a_model(clips: Path):
    data = PortraitData(str(clips), augmentation=AugmentConfig(backdrop=0.0), spec=SPEC)
    data.prepare_data()
    data.setup("fit")
    pair = data.train_pairs[0]
    assert pair.driving.shape == (1, 3, 64, 64)
    assert pair.motion_view_driving.shape[1] == 3, "the driving frame and one on each side"


def test_a_spec_that_is_missing_is_asked_for(clips: Path):
    with pytest.raises(ValueError, match=r"PortraitData\(spec=...\) is missing"):
        PortraitData(str(clips)).prepare_data()
    with pytest.raises(ValueError, match=r"SpeechData\(spec=...\) is missing"):
        SpeechData(None, str(clips)).setup("fit")


def test_stages_say_what_their_nets_need():
    net = replace(TINY, guide=False, temporal_kernel=3, framing="half_body")
    context = net.temporal_context
    stage = ReconstructionStage(net, LossConfig(), OptimizerConfig(accumulate=3))
    wanted = PortraitSpec(64, context, guide=False, framing="half_body", accumulate=3)
    assert stage.data_spec == wanted
    c = TINY_SPEECH
    stage = DiffusionStage(c, SpeechObjectiveConfig(closed_lips=1.0, lips=0.0))
    wanted = SpeechSpec(c.appearance_dim, c.window, c.history, c.front_end, c.mesh)
    assert stage.data_spec == wanted


def test_a_condition_that_the_animator_never_learned_is_refused(clips: Path, tmp_path: Path):
    path = tmp_path / "animator.safetensors"
    save_net(path, ANIMATOR, tiny_animator(use_appearance=False))
    c = TINY_SPEECH
    spec = SpeechSpec(c.appearance_dim, c.window, c.history, c.front_end, c.mesh)
    with pytest.raises(UserError, match="use_appearance: false.*model.speech.appearance"):
        SpeechData(path, str(clips), cache=str(tmp_path), spec=spec).prepare_data()


def test_nothing_in_data_looks_for_the_module_in_training():
    for path in Path(str(data.__file__)).parent.glob("*.py"):
        assert "lightning_module" not in path.read_text(encoding="utf-8"), path


class TestFraming:
    def test_it_travels_in_the_checkpoint_and_is_a_face_where_none_is_named(self, tmp_path: Path):
        animator = Animator(replace(TINY, framing="half_body"))
        save_net(tmp_path / "half.safetensors", ANIMATOR, animator)
        assert load_animator(tmp_path / "half.safetensors").config.framing == "half_body"

    def test_what_ships_shows_faces(self, shipped):
        assert load_animator(shipped[0]).config.framing == "face"

    def test_clips_of_another_framing_are_refused_by_stage_1(self, clips: Path, half_bodies: Path):
        ours = PortraitData(str(clips), half_bodies, half_bodies, spec=replace(SPEC, guide=False))
        with pytest.raises(UserError, match="a half_body, but the animator's framing is face"):
            ours.prepare_data()
        spec = replace(SPEC, framing="half_body")
        PortraitData(str(clips), half_bodies, half_bodies, spec=spec).prepare_data()
        with pytest.raises(UserError, match="a face, but the animator's framing is half_body"):
            PortraitData(str(clips), spec=spec).prepare_data()

    def test_clips_of_another_framing_are_refused_by_stage_2(
        self, clips: Path, half_bodies: Path, tmp_path: Path, capsys
    ):
        save_net(tmp_path / "animator.safetensors", ANIMATOR, tiny_animator())
        lists = ["--data.train", str(half_bodies), "--data.valid", str(half_bodies)]
        asked = ["--config", "stage2.yaml", "--config", "tiny.yaml", "--data.root", str(clips)]
        asked += ["--data.animator", str(tmp_path / "animator.safetensors"), *lists]
        asked += [
            "--trainer.default_root_dir",
            str(tmp_path / "run"),
            "--model.speech.window",
            "20",
        ]
        asked += ["--data.cache", str(tmp_path / "motion")]
        assert main(["fit", *asked]) == 1
        said = capsys.readouterr().err
        assert "shows a half_body, but the animator's framing is face" in said
        assert not (tmp_path / "motion").exists(), "nothing was extracted"
