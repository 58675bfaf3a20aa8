"""The bytes of a new file on their way into the bucket, of which only one part at a time is in memory.

    write, write, ...  ->  finish: the bytes are complete, and a list can name the file
                       ->  abandon: nothing of it stays

A file of one part is written with one call. A larger one is a multipart upload, which begins with the second
part. A mark in the bucket (registry.unfinished_files) is written first. Whoever names the file in the list
deletes the mark.
"""

import hashlib
import threading
from datetime import datetime

from registry.file_lists import content_key
from registry.file_records import generate_file_id
from registry.multipart import MIN_PART_BYTES, MultipartUpload
from registry.records import Record
from registry.store import ObjectStore
from registry.unfinished_files import Mark, UnfinishedFiles

PART_BYTES = 8 * 2**20
assert PART_BYTES >= MIN_PART_BYTES


class Content(Record):
    """The bytes that an upload has written."""

    size_bytes: int
    sha256: str


class FileUpload:
    """The upload of one file. Its methods block. If a thread still writes, the next one waits for it.

    `expires` is the time when others may delete what is left of it. Raises (all): Unavailable.
    """

    def __init__(self, store: ObjectStore, user: str, expires: datetime) -> None:
        self.file_id = generate_file_id()
        self._user = user
        self._expires = expires
        self._store = store
        self._key = content_key(user, self.file_id)
        self._marks = UnfinishedFiles(store)
        self._upload: MultipartUpload | None = None
        self._is_marked = False
        self._is_over = False
        self._digest = hashlib.sha256()
        self._size_bytes = 0
        self._lock = threading.Lock()

    def write(self, part: bytes) -> None:
        """Write a part that is not the last one. It has at least 5 MiB, or S3 refuses the file at its end."""
        with self._lock:
            self._require_open()
            if self._upload is None:
                self._upload = self._store.begin_upload(self._key)
                self._mark(self._upload.id)
            self._write(self._upload, part)

    def finish(self, last: bytes) -> Content:
        """Write the last part, which may be empty if there are others. Now the bytes are complete."""
        with self._lock:
            self._require_open()
            if self._upload is None:
                self._mark(None)
                self._count(last)
                self._store.put(self._key, last)
            else:
                if last:
                    self._write(self._upload, last)
                self._upload.complete()
            return Content(size_bytes=self._size_bytes, sha256=self._digest.hexdigest())

    def abandon(self) -> None:
        """Delete everything that was written. The list must not name the file."""
        with self._lock:
            self._is_over = True
            if not self._is_marked:
                return
            if self._upload is not None:
                self._upload.abort()
            self._store.delete(self._key)
            self._marks.clear(self._user, self.file_id)

    def _write(self, upload: MultipartUpload, part: bytes) -> None:
        self._count(part)
        upload.write(part)

    def _count(self, part: bytes) -> None:
        self._size_bytes += len(part)
        self._digest.update(part)

    def _mark(self, upload_id: str | None) -> None:
        self._is_marked = True
        self._marks.mark(self._user, self.file_id, Mark(expires=self._expires, upload_id=upload_id))

    def _require_open(self) -> None:
        if self._is_over:
            raise RuntimeError("the upload is over")
