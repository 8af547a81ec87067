"""What clips hold, by a hash of their bytes: caches are named by it, so that a changed clip is
looked at anew and no clip is served another's, whatever folder it lies in and whatever its name.

Hashing reads every clip once. The hashes are kept beside the cache with each file's size and time
of change (of an object store, with what it says of the object); a changed file is hashed anew.
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
    """Hashes of the clips below `root`; the known ones lie in `folder`."""

    def __init__(self, root: Path | Store, folder: Path | Store) -> None:
        self.root, self.folder = Store(root), Store(folder)
        self._known: dict[str, list[str]] = {}  # address -> what its file looked like, its hash

    def of(self, record: ClipRecord) -> str:
        """The hash of a clip; it is read if it is not known or has changed.

        Raises:
            UserError: it cannot be read.
        """
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
        """Hash the clips that are not known, with a progress bar, and keep what is known then."""
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
            except ValueError:  # cut short: all is hashed again
                self._known = {}

    def _address(self, record: ClipRecord) -> str:
        place = str(self.root) if self.root.remote else str(Path(str(self.root)).resolve())
        return f"{place}/{record.path}"
