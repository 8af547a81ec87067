"""What is computed of clips once and kept: one file for each clip, named by the clip's content."""

from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Generic, TypeVar

from safetensors import SafetensorError
from tqdm import tqdm

from mien.data.contents import Contents
from mien.data.manifest import ClipRecord
from mien.data.store import Store
from mien.errors import UserError

Value = TypeVar("Value")


class ClipFiles(ABC, Generic[Value]):
    """Values of clips in a folder, one file per clip, named by its content hash: of a changed clip
    they are computed again, and of equal clips of two data sets only once. The last ones that were
    read stay in memory.

    Args:
        root: where the clips are.
        folder: of the files.
        version: a subfolder for all files, so that those of another version are left alone.
    """

    title: ClassVar[str]  # of the progress bar
    suffix: ClassVar[str]  # of the files
    held: ClassVar[int] = 100_000_000  # bytes that each process keeps in memory

    def __init__(
        self, root: Path | Store, folder: Path | Store, version: str | None = None
    ) -> None:
        self.root = Store(root)
        self.folder = Store(folder) if version is None else Store(folder).below(version)
        self._contents = Contents(root, folder)
        self._names: dict[str, str] = {}
        self._held: OrderedDict[str, Value] = OrderedDict()

    @abstractmethod
    def compute(self, path: Path) -> Value:
        """The value of a clip's file."""

    @abstractmethod
    def pack(self, value: Value) -> bytes:
        """A file's content."""

    @abstractmethod
    def unpack(self, path: Path) -> Value:
        """The value of a file that was written with `pack`."""

    @abstractmethod
    def size(self, value: Value) -> int:
        """Bytes that a value takes in memory."""

    def extract(self, records: Sequence[ClipRecord]) -> None:
        """Compute what is not in the folder yet, with a progress bar.

        Raises:
            UserError: a clip cannot be read.
        """
        self._contents.learn(records)
        there = self.folder.names()
        missing = [record for record in records if self._name(record) not in there]
        for record in tqdm(missing, self.title, unit="clip", disable=not missing):
            with self.root.file(record.path) as path:
                self.keep(record, self.compute(path))

    def read(self, record: ClipRecord) -> Value:
        """The value of a clip; `extract` or `keep` must have been called.

        Raises:
            UserError: its file cannot be read.
        """
        if record.path not in self._held:
            with self.folder.file(self._name(record)) as path:
                try:
                    self._held[record.path] = self.unpack(path)
                except (OSError, SafetensorError, LookupError) as error:
                    raise UserError(
                        f"{path}, computed of {record.path}, cannot be read ({error}): "
                        "delete it, and start again"
                    ) from error
            while len(self._held) > 1 and sum(map(self.size, self._held.values())) > self.held:
                self._held.popitem(last=False)
        self._held.move_to_end(record.path)
        return self._held[record.path]

    def keep(self, record: ClipRecord, value: Value) -> None:
        """Store a value that is known without computing it."""
        self.folder.write(self._name(record), self.pack(value))
        self._held.pop(record.path, None)

    def has(self, record: ClipRecord) -> bool:
        """Is there a file of this clip?"""
        return self.folder.has(self._name(record))

    def _name(self, record: ClipRecord) -> str:
        if record.path not in self._names:
            self._names[record.path] = f"{self._contents.of(record)}{self.suffix}"
        return self._names[record.path]
