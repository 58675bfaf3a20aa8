"""A lock on a file between processes. The system gives it back when the last process that holds it ends.

The library filelock does not fit: it unlocks the file when it closes it. The storage, whose process inherits
our lock, would then lose it too.
"""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def locked(path: Path, taken: Exception) -> Iterator[int]:
    """Holds the lock of a file. Yields the file's descriptor, with which a child process inherits the lock.

    Raises: `taken`, if another process holds the lock.
    """
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise taken from None
        yield file.fileno()
