"""Graphs that were converted once, kept in the user's cache folder.

The folder is $MIEN_CACHE, by default $XDG_CACHE_HOME/mien or ~/.cache/mien. A graph's name is a
hash of all that it depends on: weights, config, versions, and the code of the nets. Deleting the
folder only costs the time to convert again; where it cannot be used, nothing is kept.
"""

import hashlib
import os
import shutil
import tempfile
import time
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
_UNFINISHED = ".unfinished-"  # begins the name of a folder that is being filled
_LONGEST = 24 * 60 * 60.0  # seconds: no process fills a folder for longer


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
    that was possible. What another process has put there meanwhile stays. Folders beside it that
    killed processes left unfinished are removed after a day.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(folder.parent)
        unfinished = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=folder.parent))
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


def _remove_abandoned(parent: Path) -> None:
    """Remove unfinished folders that nobody has written to for a day."""
    for folder in parent.glob(f"{_UNFINISHED}*"):
        try:
            abandoned = time.time() - folder.stat().st_mtime > _LONGEST
        except OSError:  # another process has finished or removed it
            continue
        if abandoned:
            shutil.rmtree(folder, ignore_errors=True)
