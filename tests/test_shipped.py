"""The weights that ship draw what they drew: stored numbers come back through every renaming and
restructuring. `python -m tests.test_shipped` writes them anew for new weights.
"""

import json
from importlib.resources import as_file, files
from pathlib import Path

import pytest
import skimage.data
import torch
from torch import Tensor
from torch.nn import functional as F

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


if __name__ == "__main__":
    stored = {name: summary(values) for name, values in latents().items()}
    STORED.write_text(json.dumps(stored, indent=1) + "\n")
