"""Data modules work on what the training module says of it, without it."""

from dataclasses import replace
from pathlib import Path

import pytest

from mien.data import datamodule
from mien.data.augment import AugmentConfig
from mien.data.datamodule import PortraitData, SpeechData
from mien.data.drawn import write_clips
from mien.data.specs import PortraitSpec, SpeechSpec
from mien.motion.objective import SpeechObjectiveConfig
from mien.training.losses import LossConfig
from mien.training.optimization import OptimizerConfig
from mien.training.stage1 import ReconstructionStage
from mien.training.stage2 import DiffusionStage
from tests.portrait.tiny import TINY
from tests.tiny_nets import TINY_SPEECH

SPEC = PortraitSpec(64, temporal_context=1)


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    for name in ("train", "valid"):
        write_clips(folder, name, people=1, clips=1, frames=24, size=64, seed=0)
    return folder


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
    net = replace(TINY, guide=False, temporal_kernel=3)
    context = net.temporal_context
    stage = ReconstructionStage(net, LossConfig(), OptimizerConfig(accumulate=3))
    wanted = PortraitSpec(64, context, guide=False, accumulate=3)
    assert stage.data_spec == wanted
    c = TINY_SPEECH
    stage = DiffusionStage(c, SpeechObjectiveConfig(closed_lips=1.0, lips=0.0))
    wanted = SpeechSpec(c.appearance_dim, c.window, c.history, c.front_end, c.mesh)
    assert stage.data_spec == wanted


def test_nothing_in_data_looks_for_the_module_in_training():
    for path in Path(datamodule.__file__).parent.glob("*.py"):
        assert "lightning_module" not in path.read_text(encoding="utf-8"), path
