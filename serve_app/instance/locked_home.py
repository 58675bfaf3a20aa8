"""The home directory of an instance, while one command works on it."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from serve_app.instance.file_lock import locked
from serve_app.instance.processes import InstanceError


@contextmanager
def locked_home(home: Path) -> Iterator[None]:
    """Makes the directory, and keeps other commands away from it during the block.

    Raises: InstanceError: another command is at work, or a disk is full, also in the block.
    """
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        home.chmod(0o700)
        taken = InstanceError(f"another `tiger up` or `tiger down` of {home} is at work")
        with locked(home / "lock", taken):
            yield
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        where = error.filename or home
        raise InstanceError(f"a disk is full ({where}): make room, then repeat the command") from error
