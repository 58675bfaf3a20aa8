"""Marks of files whose bytes are in the bucket, or may be, while no list names them.

    files-unfinished/<user>/<file id>     the id of a multipart upload, and when the mark is out of date

A mark is written before the first byte of a file, or before its deletion, and deleted after the list of files
and the bytes agree. A process that dies in between leaves the mark. When it is out of date, whoever sweeps
deletes the bytes that no list names. No upload and no deletion may last until then.
"""

import logging
from collections.abc import Callable
from datetime import datetime, timedelta

from registry.errors import FileNotFound
from registry.file_lists import FileLists, content_key
from registry.records import Record, Timestamp, utc_now
from registry.store import ObjectMissing, ObjectStore

PREFIX = "files-unfinished/"
LONGEST_DELETION = timedelta(minutes=10)
"""The time after which a deletion that has not ended was that of a process that died."""

logger = logging.getLogger(__name__)


class Mark(Record):
    """One mark. `upload_id` None: there is no multipart upload."""

    expires: Timestamp
    upload_id: str | None = None


class UnfinishedFiles:
    """The marks of all users. Raises (all): Unavailable."""

    def __init__(self, store: ObjectStore, now: Callable[[], datetime] = utc_now) -> None:
        self._store = store
        self._now = now
        self._lists = FileLists(store)

    def mark(self, user: str, file_id: str, mark: Mark) -> None:
        self._store.put(_key(user, file_id), mark.model_dump_json().encode())

    def clear(self, user: str, file_id: str) -> None:
        self._store.delete(_key(user, file_id))

    def delete_file(self, user: str, file_id: str) -> None:
        """Delete a file, first from the list and then its bytes. Raises: FileNotFound."""
        self._lists.find(user, file_id)
        # A sweep meanwhile would find the file in the list, and take a mark that is out of date away.
        self.mark(user, file_id, Mark(expires=self._now() + LONGEST_DELETION))
        self._lists.remove(user, file_id)
        self._store.delete(content_key(user, file_id))
        self.clear(user, file_id)

    def sweep(self, user: str | None = None) -> None:
        """Delete what dead processes have left of one user's files, or of all files.

        A mark that cannot be read, or that of a user whose list cannot be read, stays for the operator.
        """
        for key in self._store.list(PREFIX if user is None else f"{PREFIX}{user}/"):
            try:
                self._sweep_mark(key)
            except ValueError:
                logger.error("the mark %s, or the list of files of its user, cannot be read", key)

    def _sweep_mark(self, key: str) -> None:
        """Raises: ValueError: the mark or the list cannot be read."""
        user, file_id = key.removeprefix(PREFIX).split("/")
        try:
            mark = Mark.model_validate_json(self._store.get(key).body)
        except ObjectMissing:
            return
        if mark.expires <= self._now():
            self._settle(user, file_id, mark.upload_id)

    def _settle(self, user: str, file_id: str, upload_id: str | None) -> None:
        try:
            self._lists.find(user, file_id)
        except FileNotFound:
            if upload_id is not None:
                self._store.upload(content_key(user, file_id), upload_id).abort()
            self._store.delete(content_key(user, file_id))
        self.clear(user, file_id)


def _key(user: str, file_id: str) -> str:
    return f"{PREFIX}{user}/{file_id}"
