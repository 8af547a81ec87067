"""Content hashes of clips, which name the files of caches: a changed clip is processed again, and
two clips are never confused, whatever their folders and names.

Hashing reads every clip once. Hashes are stored beside the cache with each file's size and time of
modification (in an object store, its own version key); a changed file is hashed again.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from tqdm import tqdm

from mien.data.manifest import ClipRecord
from mien.data.store import Store

INDEX = "contents.json"
DIGITS = 24  # hexadecimal, of a hash


class Contents:
    """Hashes of the clips below `root`; known ones are stored in `folder`."""

    def __init__(self, root: Path | Store, folder: Path | Store) -> None:
        self.root, self.folder = Store(root), Store(folder)
        # Of a folder its real path: the index may be shared by runs that name it differently.
        self._place = self.root if self.root.remote else Path(str(self.root)).resolve()
        self._known: dict[str, list[str]] = {}  # address -> stamp of the file, its hash

    def of(self, record: ClipRecord) -> str:
        """The hash of a clip; computed if it is not known or the clip has changed.

        Raises:
            UserError: it cannot be read.
        """
        self._look_up()  # other processes than the one that called `learn` know the index only so
        address, stamp = self._address(record), self.root.stamp(record.path)
        known = self._known.get(address)
        if known is None or known[0] != stamp:
            digest = sha256(self.root.read(record.path)).hexdigest()[:DIGITS]
            known = self._known[address] = [stamp, digest]
        return known[1]

    def add_to(self, records: Sequence[ClipRecord]) -> list[ClipRecord]:
        """The records with the hashes of their clips."""
        self._look_up()
        return [replace(record, content=self.of(record)) for record in records]

    def learn(self, records: Sequence[ClipRecord]) -> None:
        """Hash new and changed clips, with a progress bar, and store the hashes."""
        self._look_up()
        before = dict(self._known)
        new = [record for record in records if self._address(record) not in before]
        for record in tqdm(new, "hashes of clips", unit="clip", disable=not new):
            self.of(record)
        for record in records:
            self.of(record)
        if self._known != before:
            self.folder.write(INDEX, json.dumps(self._known).encode())

    def _look_up(self) -> None:
        if not self._known and self.folder.has(INDEX):
            try:
                self._known = json.loads(self.folder.read(INDEX))
            except ValueError:  # truncated: hash everything again
                self._known = {}

    def _address(self, record: ClipRecord) -> str:
        return f"{self._place}/{record.path}"
