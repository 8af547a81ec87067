"""Storage of clips and latents: a folder, or an object store. The only module that uses fsspec.

An address such as s3://bucket/clips is read file by file, on demand: nothing is copied in advance
or cached.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from fsspec.core import url_to_fs

from mien.errors import UserError
from mien.media.files import written_whole

REMOTE = "://"


class Store:
    """Files below one folder or address, by their names with forward slashes.

    Args:
        place: a folder, or an address that fsspec knows (s3://, gs://, https://, ...); its own
            library must be installed for that, such as s3fs.
    """

    def __init__(self, place: "Path | str | Store") -> None:
        self.place = str(place)
        self.remote = REMOTE in self.place

    def __str__(self) -> str:
        return self.place

    def below(self, name: str) -> "Store":
        """The subfolder of that name."""
        return Store(f"{self.place.rstrip('/')}/{name}" if self.remote else Path(self.place, name))

    def has(self, name: str) -> bool:
        """Is there a file of that name?"""
        if not self.remote:
            return Path(self.place, name).is_file()
        with self._errors(name):
            files, path = self._remote(name)
            return files.isfile(path)

    def names(self) -> set[str]:
        """The names of all files directly in it; empty if it does not exist yet."""
        with self._errors("the list of files"):
            if not self.remote:
                folder = Path(self.place)
                return {path.name for path in folder.iterdir()} if folder.is_dir() else set()
            files, path = url_to_fs(self.place)
            found = files.ls(path, detail=False) if files.isdir(path) else []
            return {PurePosixPath(name).name for name in found}

    def read(self, name: str) -> bytes:
        """A whole file.

        Raises:
            UserError: it does not exist, or cannot be read.
        """
        with self._errors(name):
            if not self.remote:
                return Path(self.place, name).read_bytes()
            files, path = self._remote(name)
            return files.cat_file(path)

    def stamp(self, name: str) -> str:
        """Changes when the file does: size and modification time, or an object store's own key.

        Raises:
            UserError: it does not exist.
        """
        with self._errors(name):
            if not self.remote:
                seen = Path(self.place, name).stat()
                return f"{seen.st_size}-{seen.st_mtime_ns}"
            files, path = self._remote(name)
            return str(files.ukey(path))

    def write(self, name: str, data: bytes) -> None:
        """Write a file atomically.

        Raises:
            UserError: it cannot be written.
        """
        with self._errors(name):
            if self.remote:
                files, path = self._remote(name)
                files.pipe_file(path, data)
                return
            path = Path(self.place, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            with written_whole(path) as unfinished:
                unfinished.write_bytes(data)

    @contextmanager
    def file(self, name: str) -> Iterator[Path]:
        """A local path of the file, for readers that need one; a download is deleted at the end.

        Raises:
            UserError: it cannot be fetched.
        """
        if not self.remote:
            yield Path(self.place, name)
            return
        data = self.read(name)
        with tempfile.TemporaryDirectory(prefix="mien-") as folder:
            fetched = Path(folder, PurePosixPath(name).name)
            fetched.write_bytes(data)
            yield fetched

    def _remote(self, name: str) -> tuple[Any, str]:
        # Looked up each time: fsspec caches its connections, for each process its own.
        files, path = url_to_fs(self.place)
        return files, f"{path.rstrip('/')}/{name}"

    @contextmanager
    def _errors(self, name: str) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError, ImportError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UserError(f"{name} in {self.place}: {reason}") from error
