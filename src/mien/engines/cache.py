"""Graphs that were converted once, kept in the user's cache folder.

The folder is $MIEN_CACHE, by default $XDG_CACHE_HOME/mien or ~/.cache/mien. A graph's name is a
hash of all that it depends on: weights, config, versions, and the code of the nets. Deleting the
folder only costs the time to convert again; where it cannot be used, nothing is kept.
"""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch

from mien.portrait.animator import Animator

_NETS = (
    "audio",
    "diffusion",
    "engines",
    "motion",
    "nn",
    "ops",
    "portrait",
)  # the packages whose code makes the graphs; mien.types names their inputs


def cache_folder() -> Path:
    """Where graphs are kept; the folder need not exist, and cannot for a user without a home."""
    if own := os.environ.get("MIEN_CACHE"):
        return Path(own)
    if root := os.environ.get("XDG_CACHE_HOME"):
        return Path(root, "mien")
    try:
        return Path.home() / ".cache" / "mien"
    except RuntimeError:  # neither $HOME nor an entry of this user
        return Path(os.devnull, "mien")


def is_kept(folder: Path) -> bool:
    """Whether the folder of a graph is there and can be reached."""
    try:
        return folder.is_dir()
    except OSError:  # as of a home that belongs to another user
        return False


def graph_name(animator: Animator, *parts: object) -> str:
    """The name of a graph of this animator, in 32 hex digits: another for other weights, another
    config, or another value of a part (versions, options).
    """
    config = asdict(animator.config)
    digest = hashlib.sha256(repr((torch.__version__, config, parts)).encode())
    package = Path(__file__).parents[1]
    code = sorted(file for net in _NETS for file in (package / net).glob("*.py"))
    for file in (package / "types.py", *code):
        digest.update(file.read_bytes())
    for name, value in animator.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:32]


def write_folder(folder: Path, write: Callable[[Path], None]) -> bool:
    """Fill a new folder and put it in its place at once, so that no reader sees half of it; whether
    that was possible. What another process has put there meanwhile stays.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=".unfinished-", dir=folder.parent))
    except OSError:
        return False
    try:
        write(unfinished)
        unfinished.chmod(0o755)  # other users of a shared folder read it too
        unfinished.rename(folder)
    except (OSError, RuntimeError):  # the latter is OpenVINO's, as where the disk is full
        return is_kept(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return True
