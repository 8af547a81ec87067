"""A cache of audio features, computed once for each clip.

Features of a pretrained front end are stored in float16 in a folder of the motion cache named by
the front end and its weights, one file per sound, named by a hash of its samples: a changed clip is
encoded again, and front ends are never mixed. Log-mel costs less than reading and is not cached.
Axes: l audio steps, f feature dimensions, s samples.
"""

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors.torch import load, save
from torch import Tensor, nn
from tqdm import tqdm

from mien.audio.pretrained import FrontEndConfig, load_front_end
from mien.data.latents import read, sixteen_bits
from mien.data.manifest import ClipRecord
from mien.data.store import Store
from mien.kinds import fingerprint


class FeatureCache:
    """A front end with a cache on disk, in `folder` of the motion cache.

    Raises:
        UserError: the front end cannot be loaded.
    """

    def __init__(self, config: FrontEndConfig, folder: Path | Store) -> None:
        self.front_end = load_front_end(config)
        self.kept: Store | None = None
        if isinstance(self.front_end, nn.Module):
            layer = f"{config.bundle}-{config.layer}" if config.layered else config.bundle
            mark = f"{layer}-{fingerprint(self.front_end.state_dict())}"
            self.kept = Store(folder).below(mark)

    def __call__(self, sound: Float[Tensor, " s"]) -> Float[Tensor, "1 l f"]:
        """Features of a sound, read from the cache, else computed and stored.

        Raises:
            UserError: they cannot be read or written.
        """
        if self.kept is None:
            return self.front_end(sound[None])
        name = features_name(sound)
        if not self.kept.has(name):
            features = self.front_end(sound[None])[0].half()
            self.kept.write(name, save({"features": features.contiguous()}))
        return load(self.kept.read(name))["features"].float()[None]


def features_name(sound: Float[Tensor, " s"]) -> str:
    """The file of a sound's features: a hash of its samples in 16 bits."""
    return f"{sha256(sixteen_bits(sound).numpy().tobytes()).hexdigest()[:32]}.safetensors"


@torch.inference_mode()
def extract_features(
    cache: FeatureCache, records: Sequence[ClipRecord], folder: Path | Store
) -> None:
    """Compute and store the missing features of all clips, whose latents are in `folder`."""
    if cache.kept is None:
        return
    for record in tqdm(records, "sound of clips", unit="clip"):
        cache(read(folder, record).sound)
