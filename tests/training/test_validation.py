"""Validation measures the task: nothing of training's own draws, no padding, no unknown mouths."""

from dataclasses import fields, replace

import pytest
import torch

from mien.data.datasets import collate_pairs
from mien.evaluation.metrics.mouth import MouthL1
from mien.evaluation.reenact import compare
from mien.metrics import mouth_l1
from mien.motion.conditioning import ConditionDropout
from mien.motion.objective import SpeechObjectiveConfig
from mien.training.losses import LossConfig
from mien.training.optimization import OptimizerConfig
from mien.training.stage1 import ReconstructionStage
from mien.training.stage2 import DiffusionStage, with_other_speech
from mien.types import FramePair, SpeechClip
from tests.motion.conftest import clip, make_speech  # noqa: F401 (fixtures)
from tests.portrait.tiny import tiny_animator

HARSH = SpeechObjectiveConfig(
    closed_lips=1.0,
    lips=0.0,
    dropout=ConditionDropout(audio=0.5, everything=0.5, history=0.5),
    predicted_history=1.0,
    history_noise=(1.0, 2.0),
    gain_augmentation=30.0,
)
MILD = replace(HARSH, predicted_history=0.0, history_noise=(0.0, 0.0), gain_augmentation=0.0)


def scores_of(stage: DiffusionStage, batch: SpeechClip, monkeypatch) -> dict[str, float]:
    logged: dict[str, float] = {}
    monkeypatch.setattr(
        stage,
        "log_dict",
        lambda losses, **_: logged.update({name: float(loss) for name, loss in losses.items()}),
    )
    with torch.no_grad():
        stage.validation_step(batch, 0)
    return logged


def test_validation_is_free_of_what_training_draws(make_speech, clip, monkeypatch):  # noqa: F811
    speech = make_speech()
    found = []
    for objective in (HARSH, MILD):
        stage = DiffusionStage(speech.config, objective, OptimizerConfig())
        stage.speech.load_state_dict(speech.state_dict())
        found.append(scores_of(stage.eval(), clip, monkeypatch))
    assert found[0] == found[1]
    assert found[0]["val/loss"] != found[0]["val/loss_other_speech"]


def test_other_speech_lasts_for_the_whole_window(clip: SpeechClip):  # noqa: F811
    """Windows of 8 frames; the third clip has 15, so a window from 12 on would include padding."""
    other = with_other_speech(clip)
    assert other.feature_lengths.tolist() == [80, 80, 72, 60]
    assert other.start.tolist() == [0, 6, 7, 7]
    assert bool((other.start + 8 <= other.feature_lengths // 4).all())
    assert torch.equal(other.features[1:], clip.features[:-1])
    assert torch.equal(other.motion, clip.motion) and torch.equal(clip.start[3:], clip.start[-1:])


def test_a_clip_beside_itself_hears_its_sound_reversed(clip: SpeechClip):  # noqa: F811
    features = clip.features[2:3].expand(2, -1, -1)
    some = {f.name: getattr(clip, f.name)[2:] for f in fields(SpeechClip)}
    lengths = torch.tensor([60, 60])
    both = SpeechClip(**some | {"features": features, "feature_lengths": lengths})
    other = with_other_speech(both)
    assert torch.equal(other.features[:, :60], features[:, :60].flip(1))
    assert torch.equal(other.features[:, 60:], features[:, 60:]), "padding stays at the end"


def pair(mouth: torch.Tensor, seed: int) -> FramePair:
    draw = torch.Generator().manual_seed(seed)
    source, driving = torch.rand(2, 1, 3, 64, 64, generator=draw) * 2 - 1
    nothing = torch.zeros(1, 64, 64, 2), torch.zeros(1, 64, 64, 1)
    pixel_weight = torch.ones_like(mouth)
    return FramePair(source, driving, source, driving[:, None], mouth, *nothing, pixel_weight)


def test_mouth_error_is_evaluation_s_and_leaves_unknown_mouths_out(monkeypatch):
    config = tiny_animator().config
    stage = ReconstructionStage(config, LossConfig(), OptimizerConfig()).eval()
    mouth = torch.zeros(1, 1, 64, 64)
    mouth[..., 40:50, 20:40] = 1
    known, unknown = pair(mouth, 0), pair(torch.zeros_like(mouth), 1)
    logged: dict[str, tuple[float, int]] = {}

    def log(name: str, value: torch.Tensor, batch_size: int, **_: bool) -> None:
        logged[name] = float(value), batch_size

    monkeypatch.setattr(stage, "log", log)
    with torch.no_grad():
        stage.validation_step(collate_pairs([known, unknown]), 0)
    rows = compare(stage.animator, torch.cat((known.source, known.driving)), mouth[0])
    drawn, copied = (float(MouthL1().of_frames(rows[kind])) for kind in ("drawn", "copied"))
    assert logged["val/mouth_l1"] == (pytest.approx(drawn, rel=1e-4), 1)
    assert logged["val/mouth_l1_copy"] == (pytest.approx(copied, rel=1e-4), 1)
    assert logged["val/psnr"][1] == 2
    with torch.no_grad():
        stage.validation_step(unknown, 0)
    assert logged["val/mouth_l1"] == (0.0, 0), "it weighs nothing, and is logged all the same"


def test_an_unknown_mouth_has_no_error():
    drawn, wanted = torch.zeros(2, 3, 4, 4), torch.ones(2, 3, 4, 4)
    error = mouth_l1(drawn, wanted, torch.stack((torch.ones(1, 4, 4), torch.zeros(1, 4, 4))))
    assert float(error[0]) == pytest.approx(0.5) and bool(error[1].isnan())
