"""The weights that ship draw what they drew: stored numbers come back through every renaming and
restructuring. `python -m tests.test_shipped` writes them anew for new weights.
"""

import json
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
from torch import Tensor
from torch.nn import functional as F

from mien.mesh.topology import LIPS
from mien.motion.controls import Controls
from mien.session import Session

STORED = Path(__file__).with_name("shipped_latents.json")


@torch.inference_mode()
def latents() -> dict[str, Tensor]:
    """The astronaut's portrait and the first window of the demo's motion and frames, summed up."""
    session = Session.load()
    portrait = session.prepare(skimage.data.astronaut())
    with as_file(files("mien") / "assets" / "demo.wav") as sentence:
        sound = session.encode(sentence)
    motion = next(session.generate(portrait, sound, seed=0))
    own = portrait.motion.shape[1]
    implicit, mesh = motion[0, ::10, :own], motion[0, ::10, own:-1]
    frames = next(iter(session.speak(portrait, sound, seed=0))).pictures
    small = torch.from_numpy(frames[-1]).permute(2, 0, 1).float()[None] / 255
    return {
        "motion of the portrait": portrait.motion[0],
        "appearance of the portrait": portrait.appearance.vector[0],
        "sound, whole": sound.context.whole[0],
        "sound, around frames": sound.context.local[0, ::10],
        "implicit motion": implicit,
        "mesh motion": mesh,
        "a frame, 8 x 8": F.adaptive_avg_pool2d(small, 8)[0],
    }


def summary(values: Tensor) -> list[float]:
    """Eight weighted means of all numbers, whose weights are waves of eight lengths."""
    flat = values.double().flatten()
    places = torch.linspace(0, 1, len(flat), dtype=torch.float64)
    return [float((flat * torch.cos(places * (k + 1) * 7.0)).mean()) for k in range(8)]


def test_the_numbers_are_those_that_were_stored(shipped):
    stored = json.loads(STORED.read_text())
    found = {name: summary(values) for name, values in latents().items()}
    assert found.keys() == stored.keys()
    for name, numbers in found.items():
        assert numbers == pytest.approx(stored[name], abs=1e-4), name


def test_of_a_still_head_only_the_mouth_moves_and_as_in_whole_frames(shipped):
    session = Session.load()
    portrait = session.prepare(skimage.data.astronaut())
    with as_file(files("mien") / "assets" / "demo.wav") as sentence:
        sound = session.encode(sentence, start=0.5, end=1.0)
    films = []
    for options in ({"still_head": True}, {"controls": Controls(pose_scale=0.0, blink=0.0)}):
        stream = session.speak(portrait, sound, **options)
        assert (stream.engine is None) == ("still_head" not in options)
        parts = [part.pictures for part in stream]
        films.append(np.concatenate(parts).astype(float))
    still, whole = films
    assert portrait.face is not None
    lips = portrait.face.mesh.points[list(LIPS), :2]
    (left, top), (right, bottom) = lips.min(axis=0).astype(int), lips.max(axis=0).astype(int) + 1
    mouth = (slice(None), slice(top, bottom), slice(left, right))
    assert np.abs(np.diff(still[mouth], axis=0)).max() > 20
    assert np.square(still[mouth] - whole[mouth]).mean() < 255**2 / 10**4.5  # 45 dB
    moved = np.abs(still - still[:1]).max(axis=(0, 3)) > 0
    rows = np.nonzero(moved)[0]
    assert rows.min() > top - 0.2 * len(moved) and moved.mean() < 0.3


if __name__ == "__main__":
    stored = {name: summary(values) for name, values in latents().items()}
    STORED.write_text(json.dumps(stored, indent=1) + "\n")
