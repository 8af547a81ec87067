"""Clips of a face that FaceMesh finds: the astronaut's picture, drifting."""

from pathlib import Path

import numpy as np
import skimage.data
import torch

from mien.media import VideoWriter
from mien.session.portrait import load_face
from tests.tiny_nets import voice

SIDE = 128  # pixels: FaceMesh finds no face in much smaller pictures


def write_drifting(folder: Path) -> Path:
    """A data set of two equal clips, train/a.mp4 and valid/a.mp4, each with a sound."""
    picture, _ = load_face(skimage.data.astronaut(), None, SIDE)
    frame = ((picture[0].permute(1, 2, 0) + 1) * 127.5).byte().numpy()
    for name in ("train", "valid"):
        (folder / name).mkdir()
        frames = np.stack([np.roll(frame, (t // 4, -(t // 5)), (0, 1)) for t in range(26)])
        sound = torch.from_numpy(np.asarray(voice(26 / 25), np.float32))
        with VideoWriter(folder / name / "a.mp4", sound) as video:
            video.write(frames)
        line = f'{{"path": "{name}/a.mp4", "identity": "{name}", "licence": "pd", "seconds": 1.04'
        (folder / f"{name}.jsonl").write_text(line + ', "frames": 26, "mouth": null}\n')
    return folder
