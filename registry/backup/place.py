"""The place of a backup, which is a bucket or a directory, and the copy of one object to it or from it."""

import builtins
import hashlib
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Protocol, TypeVar

from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_exponential

from registry.backup.errors import BackupDamaged
from registry.errors import Unavailable
from registry.records import Record

IN_MEMORY_BYTES = 8 * 2**20
SMALL_OBJECTS_THREADS = 16
LARGE_OBJECTS_THREADS = 4
"""The copies that are made at a time. Each large object takes room in the temporary directory."""
TRIES = 4

T = TypeVar("T")
R = TypeVar("R")


class Place(Protocol):
    """The functions of a bucket or a directory that a backup uses. Reading raises ObjectMissing."""

    def list(self, prefix: str) -> builtins.list[str]: ...

    def read_chunks(self, key: str) -> Iterator[bytes]: ...

    def put(self, key: str, body: bytes) -> None: ...

    def upload_file(self, path: Path, key: str) -> None: ...

    def delete_many(self, keys: Iterable[str]) -> None: ...


class Digest(Record):
    size_bytes: int
    sha256: str


def digest_of(chunks: Iterable[bytes], file: IO[bytes] | None = None) -> Digest:
    """The digest of these bytes, which are written to `file` too."""
    size_bytes, sha256 = 0, hashlib.sha256()
    for chunk in chunks:
        size_bytes += len(chunk)
        sha256.update(chunk)
        if file is not None:
            file.write(chunk)
    return Digest(size_bytes=size_bytes, sha256=sha256.hexdigest())


@retry(
    retry=retry_if_exception_type(Unavailable),
    stop=stop_after_attempt(TRIES),
    wait=wait_exponential(multiplier=0.2, max=2),
    reraise=True,
)
def copy_object(source: Place, key: str, target: Place, target_key: str) -> Digest:
    """Copy one version of an object, and read the copy back.

    Reading is tried again: an object that is replaced while it is being read may break off.

    Raises:
        ObjectMissing: the source has no such object.
        BackupDamaged: the target does not give the bytes back.
    """
    with tempfile.NamedTemporaryFile(prefix="tiger-copy-") as file:
        digest = digest_of(source.read_chunks(key), file)
        file.flush()
        path = Path(file.name)
        if digest.size_bytes <= IN_MEMORY_BYTES:
            target.put(target_key, path.read_bytes())
        else:
            target.upload_file(path, target_key)
    _read_back(target, target_key, digest)
    return digest


def put_object(target: Place, key: str, body: bytes) -> Digest:
    """Write an object, and read it back. Raises: BackupDamaged."""
    digest = digest_of([body])
    target.put(key, body)
    _read_back(target, key, digest)
    return digest


def in_parallel(
    work: Callable[[T], R], items: Iterable[T], num_threads: int = SMALL_OBJECTS_THREADS
) -> list[R]:
    """The results of `work` for all items. After an error, work that has not begun does not begin."""
    with ThreadPoolExecutor(num_threads) as pool:
        return list(pool.map(work, items))


def _read_back(target: Place, key: str, digest: Digest) -> None:
    if digest_of(target.read_chunks(key)) != digest:
        raise BackupDamaged(f"{key} does not read back as it was written")
