"""Both nets, tiny and random but awake, and the inputs that tests feed them."""

import wave
from dataclasses import asdict
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
import torch
from PIL import Image

from mien.audio.encoders import GlobalEncoderConfig, LocalEncoderConfig
from mien.audio.pretrained import FrontEndConfig
from mien.checkpoint import ANIMATOR, SPEECH_TO_MOTION, motion_fingerprint
from mien.kinds import Kind, Weights, fingerprint, save_weights
from mien.motion.speech_to_motion import SpeechToMotion, SpeechToMotionConfig
from mien.portrait.animator import Animator
from tests.portrait.tiny import TINY, awake, tiny_animator

TINY_SPEECH = SpeechToMotionConfig(
    appearance_dim=TINY.appearance_dim,
    mesh=False,
    space_dims=8,
    window=20,
    front_end=FrontEndConfig(),
    audio_width=16,
    global_encoder=GlobalEncoderConfig(layers=1, state=4),
    local_encoder=LocalEncoderConfig(layers=1, state=4),
    direct_head=False,
    width=32,
    layers=1,
    heads=2,
    condition_width=16,
)


def tiny_pair() -> tuple[Animator, SpeechToMotion]:
    """An animator and a speech-to-motion that really move the picture, ready for use."""
    animator = awake(tiny_animator())
    torch.manual_seed(3)
    speech = SpeechToMotion(TINY_SPEECH)
    with torch.no_grad():
        for parameter in speech.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    speech.space.fit(torch.randn(100, TINY_SPEECH.motion_dim), torch.zeros(2, 768))
    return animator, speech.eval()


def save_tiny_pair(folder: Path) -> tuple[Path, Path]:
    """The tiny pair as two files of weights."""
    animator, speech = tiny_pair()
    paths = folder / "animator.safetensors", folder / "speech_to_motion.safetensors"
    save_net(paths[0], ANIMATOR, animator)
    save_net(paths[1], SPEECH_TO_MOTION, speech, motion_fingerprint(animator.state_dict()))
    return paths


def save_net(path: Path, kind: Kind, net: Any, animator_fingerprint: str | None = None) -> None:
    """Weights as training exports them."""
    state = net.state_dict()
    config, own = asdict(net.config), fingerprint(state)
    sampling = asdict(net.sampling) if isinstance(net, SpeechToMotion) else None
    weights = Weights(kind.name, config, state, own, animator_fingerprint, sampling=sampling)
    save_weights(path, weights)


def voice(seconds: float, rate: int = 16_000) -> np.ndarray:
    """Somebody who speaks from the first sample on: the demo's sentence, again and again."""
    with as_file(files("mien") / "assets" / "demo.wav") as path:
        sentence, own = soundfile.read(str(path))
    spoken = sentence[round(0.25 * own) : round(4.25 * own)]
    long_enough = np.resize(spoken, round(seconds * own) + own)
    if rate != own:
        long_enough = soxr.resample(long_enough, own, rate)
    return long_enough[: round(seconds * rate)]


def write_wav(path: Path, sound: np.ndarray, rate: int = 16_000) -> Path:
    """A 16-bit wav; sound in [-1, 1], (samples) or (samples channels)."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1 if sound.ndim == 1 else sound.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((np.clip(sound, -1, 1) * 32767).astype("<i2").tobytes())
    return path


def write_portrait(path: Path) -> Path:
    """A picture without a face, for tests that give the box by hand."""
    across, down = np.meshgrid(np.linspace(0, 255, 150), np.linspace(255, 0, 200))
    slope = np.stack((across, down, (across + down) / 2), axis=-1)
    Image.fromarray(slope.astype(np.uint8)).save(path)
    return path


BOX = (40.0, 50.0, 110.0, 150.0)  # of a face that the picture does not have
