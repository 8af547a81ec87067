"""Extract the motion latents of many clips for stage 2, in parallel.

`lightning fit --config stage2.yaml` extracts missing latents by itself, on its own accelerator;
this does it beforehand for large data sets, on many cores or machines.
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
    """Write the missing latents of all clips into the subfolder of `cache` that is named by the
    animator's fingerprint. Returns the folder, and the errors of the clips that failed; the others
    are written all the same.

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
    """The work of one worker process; returns the error message of a clip, if there is one."""

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
        except Exception as error:  # out of memory, a store that does not answer
            return f"{type(error).__name__}: {error}"
        return None
