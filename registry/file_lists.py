"""The files of a user: `files/<user>/files.json`, changed only with conditional writes.

    files/<user>/files.json    the list, with sizes and digests
    files/<user>/<file id>     the bytes of one file

A file exists while the list names it. Its bytes are written before that, and deleted after it is no longer
named. Several writers cannot lose each other's changes, because each of them writes only over the list that
it has read. The sum of the sizes is therefore exact, and so is the check of a user's room.
"""

import random
import time
from collections.abc import Callable
from typing import NamedTuple

from registry.errors import NO_SUCH_FILE, FileNotFound, QuotaExceeded, Unavailable
from registry.file_records import FileRecord, UserFiles
from registry.store import ObjectMissing, ObjectStore, WriteConflict

PREFIX = "files/"
LIST = "files.json"
UPDATE_DEADLINE_S = 30.0
FIRST_WAIT_S = 0.01
LONGEST_WAIT_S = 1.0


class FileLimits(NamedTuple):
    """The room of one user."""

    max_files: int
    max_bytes: int


class FileLists:
    """The lists of all users. Raises (all): Unavailable."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def load(self, user: str) -> UserFiles:
        return self._load(user)[0]

    def find(self, user: str, file_id: str) -> FileRecord:
        """Raises: FileNotFound: unknown, or another user's."""
        return _named(self.load(user), file_id)

    def require_room(self, user: str, size_bytes: int, limits: FileLimits) -> None:
        """Raises: QuotaExceeded: the user has no room for another file of this size."""
        _require_room(self.load(user), size_bytes, limits)

    def add(self, user: str, record: FileRecord, limits: FileLimits | None) -> None:
        """Name a file whose bytes are complete. `limits` None: whatever the user has. It may be repeated.

        Raises: QuotaExceeded. Nothing was written then.
        """

        def append(current: UserFiles) -> UserFiles:
            if any(file.id == record.id for file in current.files):
                return current
            if limits is not None:
                _require_room(current, record.size_bytes, limits)
            return UserFiles(files=(*current.files, record))

        self._update(user, append)

    def remove(self, user: str, file_id: str) -> None:
        """Take a file out of the list. Raises: FileNotFound."""

        def without(current: UserFiles) -> UserFiles:
            removed = _named(current, file_id)
            return UserFiles(files=tuple(file for file in current.files if file != removed))

        self._update(user, without)

    def _update(self, user: str, change: Callable[[UserFiles], UserFiles]) -> None:
        """Apply `change` to the newest list; it may be called again with a newer one."""
        deadline, wait_s = time.monotonic() + UPDATE_DEADLINE_S, FIRST_WAIT_S
        while True:
            current, etag = self._load(user)
            changed = change(current)
            if changed == current:
                return
            try:
                self._save(user, changed, etag)
                return
            except WriteConflict as conflict:
                if time.monotonic() + wait_s > deadline:
                    raise Unavailable("too many changes at once to the files of this user") from conflict
            # Another writer was first. A random wait keeps the writers from colliding again.
            time.sleep(random.uniform(0, wait_s))
            wait_s = min(2 * wait_s, LONGEST_WAIT_S)

    def _load(self, user: str) -> tuple[UserFiles, str | None]:
        """The list and its etag, which is None while there is no list yet."""
        try:
            stored = self._store.get(list_key(user))
        except ObjectMissing:
            return UserFiles(), None
        return UserFiles.model_validate_json(stored.body), stored.etag

    def _save(self, user: str, files: UserFiles, etag: str | None) -> None:
        body = files.model_dump_json().encode()
        if etag is None:
            self._store.create(list_key(user), body)
        else:
            self._store.replace(list_key(user), body, etag)


def list_key(user: str) -> str:
    return f"{PREFIX}{user}/{LIST}"


def content_key(user: str, file_id: str) -> str:
    return f"{PREFIX}{user}/{file_id}"


def _named(files: UserFiles, file_id: str) -> FileRecord:
    for file in files.files:
        if file.id == file_id:
            return file
    raise FileNotFound(NO_SUCH_FILE)


def _require_room(files: UserFiles, size_bytes: int, limits: FileLimits) -> None:
    if len(files.files) >= limits.max_files:
        raise QuotaExceeded(f"you have {len(files.files)} files, as many as you may have; delete one first")
    if files.size_bytes + size_bytes > limits.max_bytes:
        raise QuotaExceeded(
            f"your files would have more than {limits.max_bytes} bytes together; delete some first"
        )
