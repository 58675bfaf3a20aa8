"""The client of a bucket in memory, with all calls of an `ObjectStore`."""

import io
import secrets
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from botocore.response import StreamingBody

from registry.settings import StorageSettings
from registry.store import ObjectStore
from tests.support.s3_clients import LaxClient, always


def nothing(key: str) -> None:
    """Does nothing before a read or a write."""


class MemoryClient(LaxClient):
    """A client whose objects are in a dict, which several clients may share.

    `before_read` and `before_write` are called before each call that reads or writes, in its thread, with the
    key or the prefix.
    """

    def __init__(
        self,
        objects: dict[str, bytes] | None = None,
        before_read: Callable[[str], None] = nothing,
        before_write: Callable[[str], None] = nothing,
    ) -> None:
        super().__init__()
        self.objects = {} if objects is None else objects
        self.uploads: dict[str, dict[int, bytes]] = {}
        """The parts of multipart uploads that have not ended, by the id of the upload."""
        self._before_read = before_read
        self._before_write = before_write
        self._lock = threading.Lock()

    def put_object(self, **arguments: Any) -> Any:
        self._before_write(arguments["Key"])
        with self._lock:
            return super().put_object(**arguments)

    def get_object(self, *, Key: str, **_: Any) -> Any:
        self._before_read(Key)
        body = self.objects.get(Key)
        if body is None:
            raise self._error(404)
        return {"Body": StreamingBody(io.BytesIO(body), len(body)), "ETag": repr(body)}

    def delete_object(self, *, Key: str, **_: Any) -> None:
        self._before_write(Key)
        self.objects.pop(Key, None)

    def delete_objects(self, *, Delete: Any, **_: Any) -> Any:
        for each in Delete["Objects"]:
            self.delete_object(Key=each["Key"])
        return {}

    def copy_object(self, *, Key: str, CopySource: Any, **_: Any) -> None:
        body = self.get_object(Key=CopySource["Key"])["Body"].read()
        self.put_object(Key=Key, Body=body)

    def create_multipart_upload(self, **_: Any) -> Any:
        upload_id = f"upload-{secrets.token_hex(8)}"
        self.uploads[upload_id] = {}
        return {"UploadId": upload_id}

    def upload_part(self, *, Key: str, UploadId: str, PartNumber: int, Body: bytes, **_: Any) -> Any:
        self._before_write(Key)
        self._parts(UploadId)[PartNumber] = Body
        return {"ETag": repr(Body)}

    def complete_multipart_upload(self, *, Key: str, UploadId: str, MultipartUpload: Any, **_: Any) -> None:
        parts = self._parts(UploadId)
        self.put_object(
            Key=Key, Body=b"".join(parts[part["PartNumber"]] for part in MultipartUpload["Parts"])
        )
        del self.uploads[UploadId]

    def abort_multipart_upload(self, *, UploadId: str, **_: Any) -> None:
        self._parts(UploadId)
        del self.uploads[UploadId]

    def _parts(self, upload_id: str) -> dict[int, bytes]:
        if upload_id not in self.uploads:
            raise self._error(404)
        return self.uploads[upload_id]

    def upload_file(self, path: str, bucket: str, key: str) -> None:
        self.put_object(Key=key, Body=Path(path).read_bytes())

    def download_file(self, bucket: str, key: str, path: str) -> None:
        Path(path).write_bytes(self.get_object(Key=key)["Body"].read())

    def get_paginator(self, _: str) -> "MemoryClient":
        return self

    def paginate(self, *, Prefix: str, StartAfter: str = "", Delimiter: str = "", **_: Any) -> Iterator[Any]:
        self._before_read(Prefix)
        keys = sorted(key for key in list(self.objects) if key.startswith(Prefix) and key > StartAfter)
        if Delimiter:
            kinds = {key.partition(Delimiter)[0] + Delimiter for key in keys if Delimiter in key}
            yield {"CommonPrefixes": [{"Prefix": kind} for kind in kinds]}
        else:
            yield {"Contents": [{"Key": key} for key in keys]}


def memory_store(client: MemoryClient | None = None) -> ObjectStore:
    """A bucket in memory. Each client without a dict of its own has an empty bucket."""
    return ObjectStore(StorageSettings(), always(client or MemoryClient()))


def once_at(name: str, act: Callable[[], object]) -> Callable[[str], None]:
    """Make the hook that acts before the first read of a key, or before the first list of a prefix."""
    left = [act]
    lock = threading.Lock()

    def hook(key: str) -> None:
        with lock:
            found = left.pop() if key == name and left else None
        if found is not None:
            found()

    return hook
