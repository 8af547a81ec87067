"""A tiny Loki, and drawn clips whose faces are known without fitting."""

from pathlib import Path

import torch
from diffusers import AutoencoderKL

from mien.data.drawn import write_clips
from mien.data.faces import FaceCache, face_model
from mien.data.records import read_records
from mien.loki.config import LokiConfig
from mien.loki.net import Loki
from tests.face_model.faces import coefficients

TINY = LokiConfig(
    image_size=32, window=3, channels=(32, 64), encoder_channels=(8, 16, 16), head_dim=32
)


def autoencoder(stages: int = 4, **more) -> AutoencoderKL:
    """A narrow, random one."""
    torch.manual_seed(0)
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * stages,
        up_block_types=("UpDecoderBlock2D",) * stages,
        block_out_channels=(8,) * stages,
        norm_num_groups=4,
        **more,
    )


def awake(net: Loki, seed: int = 0) -> Loki:
    """A net whose zero-initialised layers do something."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return net.eval()


def write_faces(folder: Path, frames: int = 20) -> list[str]:
    """Drawn clips with manifests, and a cache of random faces; returns the options for `fit`."""
    write_clips(folder, "train", people=2, clips=2, frames=frames, size=64, seed=0)
    write_clips(folder, "valid", people=2, clips=1, frames=frames, size=64, seed=1)
    cache = FaceCache(folder, folder / "faces")
    for name in ("train", "valid"):
        for number, record in enumerate(read_records(folder, Path(f"{name}.jsonl"))):
            cache.keep(record, coefficients(face_model(), t=frames, seed=number))
    return ["--data.root", str(folder), "--data.faces", str(folder / "faces")]
