"""A directory as the place of a backup: the path of a file below the directory is the key of an object.

A file appears under its key completely, or not at all. Only the user who makes the backup may read it.
"""

import builtins
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from registry.store import ObjectMissing

PARTIAL = "partial"
"""The directory of files that are being written. It is no part of a backup."""


class DirectoryPlace:
    """The files of a directory. A method raises OSError if the file system refuses."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def list(self, prefix: str) -> builtins.list[str]:
        """The keys that begin with `prefix`, in order."""
        paths = (path for path in self._directory.rglob("*") if path.is_file())
        keys = (path.relative_to(self._directory).as_posix() for path in paths)
        return sorted(key for key in keys if key.startswith(prefix) and not key.startswith(f"{PARTIAL}/"))

    def read_chunks(self, key: str, chunk_bytes: int = 2**20) -> Iterator[bytes]:
        """The object in pieces. Raises: ObjectMissing."""
        try:
            file = self._path(key).open("rb")
        except FileNotFoundError as error:
            raise ObjectMissing(key) from error
        with file:
            while chunk := file.read(chunk_bytes):
                yield chunk

    def put(self, key: str, body: bytes) -> None:
        with self._new_file(key) as file:
            file.write(body)

    def upload_file(self, path: Path, key: str) -> None:
        with path.open("rb") as source, self._new_file(key) as file:
            shutil.copyfileobj(source, file)

    def delete_many(self, keys: Iterable[str]) -> None:
        for key in keys:
            self._path(key).unlink(missing_ok=True)

    @contextmanager
    def _new_file(self, key: str) -> Iterator[BinaryIO]:
        path = self._path(key)
        partial = self._directory / PARTIAL / secrets.token_hex(8)
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        partial.parent.mkdir(mode=0o700, exist_ok=True)
        try:
            with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            path.parent.mkdir(parents=True, exist_ok=True)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        path = PurePosixPath(key)
        if path.is_absolute() or ".." in path.parts or not path.parts:
            raise ValueError(f"{key!r} is no key of an object")
        return self._directory / path
