"""The data root and its manifests."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mien.data.manifest import ClipRecord, parse_manifest, read_manifest
from mien.data.store import Store
from mien.errors import UserError
from mien.types import Framing


def data_root(given: Path | str | None) -> Store:
    """Where the clips are: the folder or address given, else the environment variable MIEN_DATA.

    Raises:
        UserError: neither names an existing folder, nor an address.
    """
    named = given or os.environ.get("MIEN_DATA")
    if not named:
        raise UserError("no data: give the folder of your clips with --data.root or in MIEN_DATA")
    root = Store(named)
    if root.remote:
        return root
    folder = Path(named).expanduser()
    if not folder.is_dir():
        raise UserError(f"the data folder {folder} does not exist: check --data.root or MIEN_DATA")
    return Store(folder)


def refuse_other_framing(records: Sequence[ClipRecord], framing: Framing) -> None:
    """Check that clips are framed as the animator is trained.

    Raises:
        UserError: one is not.
    """
    for record in records:
        if record.framing != framing:
            raise UserError(
                f"{record.path} shows a {record.framing}, but the animator's framing is {framing}: "
                f"set model.animator.framing, or prepare clips with cut.framing={framing}"
            )


def read_records(root: Path | Store, manifest: Path) -> list[ClipRecord]:
    """The clips of a manifest, which is in the working directory, else in the data root.

    Clip paths are relative to the root, or to the folder in it named like the manifest (the clips
    of train.jsonl may be in root/train); returned paths are relative to the root. In an object
    store only the first clip is checked to exist.

    Raises:
        UserError: there is no such manifest, it lists no clip, or a clip is missing.
    """
    root = Store(root)
    if manifest.is_file():
        found, records = str(manifest.resolve()), read_manifest(manifest)
    elif root.has(manifest.as_posix()):
        found = f"{root}/{manifest}"
        records = parse_manifest(root.read(manifest.as_posix()).decode(), found)
    else:
        raise UserError(
            f"no manifest {manifest} here nor in {root}: make one with mien prepare "
            "(or tools/build_manifest.py for clips that are cut already)"
        )
    if not records:
        raise UserError(f"the manifest {found} lists no clip: give one that does")

    inner = f"{manifest.stem}/{records[0].path}"
    if not root.has(records[0].path) and root.has(inner):
        records = [replace(record, path=f"{manifest.stem}/{record.path}") for record in records]
    for record in records[:1] if root.remote else records:
        if not root.has(record.path):
            raise UserError(f"{found} names {record.path}, which is not in {root}: check the root")
    return records


def records_of_speech(
    records: Sequence[ClipRecord], manifest: Path, frames: int
) -> list[ClipRecord]:
    """The clips of a manifest that have sound and at least so many frames.

    Raises:
        UserError: there is none.
    """
    audible = [record for record in records if record.sound]
    if not audible:
        raise UserError(f"no clip of {manifest} has sound, which stage 2 needs: give others")
    long_enough = [record for record in audible if record.frames >= frames]
    if not long_enough:
        longest = max(record.frames for record in audible)
        raise UserError(
            f"no clip of {manifest} has the {frames} frames of model.speech.window: "
            f"lower it to {longest} or less, or give longer clips"
        )
    return long_enough
