"""A tiny net that has been shaken out of its silent start, and a batch for it."""

from collections.abc import Callable

import pytest
import torch

from mien.audio.encoders import GlobalEncoderConfig, LocalEncoderConfig
from mien.audio.pretrained import FrontEndConfig
from mien.motion.speech_to_motion import SpeechToMotion, SpeechToMotionConfig
from mien.types import SpeechClip

TINY = {
    "appearance_dim": 5,
    "motion_dim": 10,
    "mesh": False,
    "space_dims": 4,
    "window": 8,
    "audio_width": 8,
    "width": 16,
    "layers": 2,
    "heads": 2,
    "condition_width": 12,
    "front_end": FrontEndConfig(),
    "global_encoder": GlobalEncoderConfig(layers=1, state=4),
    "local_encoder": LocalEncoderConfig(layers=1, state=4),
    "direct_head": False,
}


@pytest.fixture
def make_speech() -> Callable[..., SpeechToMotion]:
    def make(fitted: torch.Tensor | None = None, **changes) -> SpeechToMotion:
        torch.manual_seed(0)
        speech = SpeechToMotion(SpeechToMotionConfig(**{**TINY, **changes}))
        with torch.no_grad():  # gates start at zero and would hide every mistake behind them
            for parameter in speech.denoiser.parameters():
                parameter.add_(0.2 * torch.randn_like(parameter))
        if fitted is None:
            fitted = torch.randn(200, 10) * torch.logspace(0, -1, 10)
        speech.space.fit(fitted, torch.randn(6, fitted.shape[1]))
        return speech.eval()

    return make


@pytest.fixture
def clip() -> SpeechClip:
    draw = torch.Generator().manual_seed(1)
    normal = lambda *shape: torch.randn(*shape, generator=draw)  # noqa: E731
    return SpeechClip(
        features=normal(4, 80, 80),
        feature_lengths=torch.tensor([80, 72, 60, 80]),
        start=torch.tensor([0, 6, 7, 12]),
        motion=normal(4, 8, 10),
        history=normal(4, 4, 10),
        history_known=torch.tensor([False, True, True, True]),
        appearance=normal(4, 5),
        source_motion=normal(4, 10),
    )
