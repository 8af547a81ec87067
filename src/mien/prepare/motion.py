"""The motion of many clips for stage 2, by the engines of the preparation.

`lightning fit --config stage2.yaml` extracts what is missing by itself, on its own accelerator; a
set that is too large for that is extracted beforehand, on many cores or machines.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from tqdm import tqdm

from mien.checkpoint import load_animator, motion_fingerprint
from mien.data.contents import Contents
from mien.data.datasets import ClipCache
from mien.data.latents import extract, without_latents, write
from mien.data.manifest import ClipRecord
from mien.data.store import Store
from mien.errors import UserError
from mien.prepare.engine import run


def extract_motion(
    animator: Path,
    records: Sequence[ClipRecord],
    root: Store,
    cache: Store,
    workers: int | None = None,
    engine: str = "processes",
) -> tuple[Store, dict[str, str]]:
    """Write what is missing of the latents of all clips, into the folder of `cache` that is named
    by the animator's fingerprint. Returns the folder, and what is wrong with the clips that gave
    nothing; the others are done all the same.

    Raises:
        UserError: the animator cannot be loaded.
    """
    folder = cache.below(motion_fingerprint(load_animator(animator).state_dict()))
    contents = Contents(root, cache)
    contents.learn(records)
    missing = without_latents(contents.add_to(records), folder)
    make: Callable[[], Callable[[ClipRecord], str | None]]
    make = partial(_Extraction, animator, root, folder)
    problems: dict[str, str] = {}
    with tqdm(total=len(records), initial=len(records) - len(missing), unit="clip") as bar:
        for record, problem in run(engine, make, missing, workers):
            if problem is not None:
                problems[record.path] = str(problem)
            bar.update()
    return folder, problems


class _Extraction:
    """What a worker does with a clip; says what is wrong with it, if anything is."""

    def __init__(self, animator: Path, root: Store, folder: Store) -> None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self._animator = load_animator(animator).to(device)
        self._clips = ClipCache(root, self._animator.config.image_size, capacity=1)
        self._folder = folder

    def __call__(self, record: ClipRecord) -> str | None:
        try:
            latents = extract(self._animator, self._clips, record)
            write(self._folder, record, latents)
        except UserError as error:
            return str(error)
        except Exception as error:  # too little memory, a store that does not answer: of this clip
            return f"{type(error).__name__}: {error}"
        return None
