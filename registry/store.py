"""The object store: bytes under keys in one S3 bucket, with conditional writes.

    ApiKeys, UserModelStore, Revisions, Jobs  ->  ObjectStore  ->  boto3  ->  any S3-compatible endpoint

This file knows neither JSON nor the layout of the bucket. `registry.store_errors` has its exceptions.
"""

import builtins
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

from registry.client import PLAIN_ATTEMPTS, ClientFactory, build_client, create_bucket_arguments
from registry.errors import Unavailable
from registry.multipart import MultipartUpload
from registry.settings import StorageSettings
from registry.store_errors import UNREACHABLE, code_of, status_of, translated
from registry.store_errors import ObjectMissing as ObjectMissing
from registry.store_errors import StorageUnfit as StorageUnfit
from registry.store_errors import WriteConflict as WriteConflict

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client
    from mypy_boto3_s3.type_defs import ListObjectsV2OutputTypeDef

READ_THREADS = 8
DELETE_BATCH = 1000
CONDITIONAL_ATTEMPTS = 2


@dataclass(frozen=True, slots=True)
class StoredObject:
    body: bytes
    etag: str


def _succeeds(write: Callable[..., str], *arguments: object) -> bool:
    try:
        write(*arguments)
    except WriteConflict:
        return False
    return True


class ObjectStore:
    """The objects of one bucket. It is thread-safe.

    Pickling keeps only the settings; every process makes its own client on first use. `make_client` is for
    tests, and for credentials that are not in the usual places.
    """

    def __init__(
        self,
        settings: StorageSettings,
        make_client: ClientFactory = build_client,
    ) -> None:
        self.settings = settings
        self._make_client = make_client
        self._clients: dict[int, S3Client] = {}
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[type["ObjectStore"], tuple[StorageSettings, ClientFactory]]:
        return ObjectStore, (self.settings, self._make_client)

    def get(self, key: str) -> StoredObject:
        """Raises: ObjectMissing."""
        with translated(key):
            response = self._s3().get_object(Bucket=self.settings.bucket, Key=self._full(key))
            return StoredObject(response["Body"].read(), response["ETag"])

    def get_many(self, keys: Iterable[str]) -> builtins.list[StoredObject | None]:
        """Several objects at once, in the order of `keys`; None for a key that has no object."""
        with ThreadPoolExecutor(READ_THREADS) as pool:
            return list(pool.map(self._get_or_none, keys))

    def put(self, key: str, body: bytes) -> None:
        with translated(key):
            self._s3().put_object(Bucket=self.settings.bucket, Key=self._full(key), Body=body)

    def create(self, key: str, body: bytes) -> str:
        """Write a key that does not exist yet; returns its etag. Raises: WriteConflict."""
        return self._put_if(key, body, None)

    def replace(self, key: str, body: bytes, etag: str) -> str:
        """Write over the version with this etag; returns the new one. Raises: WriteConflict."""
        return self._put_if(key, body, etag)

    def delete(self, key: str) -> None:
        """Delete an object. It is no error if the key does not exist."""
        with translated(key):
            self._s3().delete_object(Bucket=self.settings.bucket, Key=self._full(key))

    def delete_many(self, keys: Iterable[str]) -> None:
        remaining = iter(keys)
        while batch := list(islice(remaining, DELETE_BATCH)):
            with translated():
                answer = self._s3().delete_objects(
                    Bucket=self.settings.bucket,
                    Delete={"Objects": [{"Key": self._full(key)} for key in batch], "Quiet": True},
                )
            if answer.get("Errors"):
                raise Unavailable(UNREACHABLE)

    def delete_prefix(self, prefix: str) -> None:
        """Delete all objects whose keys begin with `prefix`. Raises: ValueError: the prefix is empty."""
        if not prefix:
            raise ValueError("delete_prefix: the prefix is empty")
        self.delete_many(self.list(prefix))

    def list(self, prefix: str, start_after: str = "", limit: int | None = None) -> builtins.list[str]:
        """The keys that begin with `prefix` and come after `start_after`, in order."""
        after = self._full(start_after) if start_after else ""
        size = {"PageSize": min(limit or 1000, 1000)}
        with translated():
            pages = self._pages(prefix, StartAfter=after, PaginationConfig=size)
            keys = (entry["Key"] for page in pages for entry in page.get("Contents", ()))
            return [key[len(self.settings.prefix) :] for key in islice(keys, limit)]

    def list_kinds(self) -> set[str]:
        """The beginnings of all keys that have a slash, up to the first one."""
        with translated():
            pages = builtins.list(self._pages("", Delimiter="/"))
        kinds = (entry["Prefix"] for page in pages for entry in page.get("CommonPrefixes", ()))
        return {kind[len(self.settings.prefix) :] for kind in kinds}

    def upload_file(self, path: Path, key: str) -> None:
        with translated(key):
            self._s3().upload_file(str(path), self.settings.bucket, self._full(key))

    def download_file(self, key: str, path: Path) -> None:
        """Raises: ObjectMissing."""
        with translated(key):
            self._s3().download_file(self.settings.bucket, self._full(key), str(path))

    def read_chunks(self, key: str, chunk_bytes: int = 2**20) -> Iterator[bytes]:
        """The object in pieces. Raises: ObjectMissing, Unavailable."""
        with translated(key):
            answer = self._s3().get_object(Bucket=self.settings.bucket, Key=self._full(key))
            yield from answer["Body"].iter_chunks(chunk_bytes)

    def begin_upload(self, key: str) -> MultipartUpload:
        """Begin an object whose size is not known yet."""
        with translated(key):
            begun = self._s3().create_multipart_upload(Bucket=self.settings.bucket, Key=self._full(key))
        return self.upload(key, begun["UploadId"])

    def upload(self, key: str, upload_id: str) -> MultipartUpload:
        """The upload with this id, which this process or another one has begun."""
        return MultipartUpload(self._s3(), self.settings.bucket, self._full(key), upload_id)

    def copy(self, source_key: str, destination_key: str) -> None:
        """Copy an object inside the bucket, without downloading it. Raises: ObjectMissing."""
        with translated(source_key):
            self._s3().copy_object(
                Bucket=self.settings.bucket,
                Key=self._full(destination_key),
                CopySource={"Bucket": self.settings.bucket, "Key": self._full(source_key)},
            )

    def probe(self) -> None:
        """Make the bucket if there is none, and prove that the endpoint honours conditional writes.

        Raises:
            StorageUnfit: the endpoint does not honour them, or it refuses the bucket or the credentials.
            Unavailable: the endpoint cannot be reached.
        """
        self.ensure_bucket()
        key = f"probe/{secrets.token_hex(16)}"
        try:
            first = self.create(key, b"first")
            if _succeeds(self.create, key, b"other"):
                raise StorageUnfit("the endpoint does not honour If-None-Match: a key was created twice")
            try:
                second = self.replace(key, b"second", first)
            except WriteConflict as error:
                raise StorageUnfit("the endpoint refuses If-Match with the current etag") from error
            if _succeeds(self.replace, key, b"third", first):
                raise StorageUnfit("the endpoint does not honour If-Match: a stale etag was accepted")
            if self.get(key) != StoredObject(b"second", second):
                raise StorageUnfit("the endpoint does not read back what was written last")
        finally:
            self.delete(key)

    def ensure_bucket(self) -> None:
        """Make the bucket if there is none. Raises: StorageUnfit: refused; Unavailable."""
        client = self._s3()
        try:
            try:
                client.head_bucket(Bucket=self.settings.bucket)
            except ClientError as error:
                if status_of(error) != 404:
                    raise
                client.create_bucket(Bucket=self.settings.bucket, **create_bucket_arguments(self.settings))
        except NoCredentialsError as error:
            raise StorageUnfit("no S3 credentials were found in the usual AWS places") from error
        except ClientError as error:
            if code_of(error) in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
                return
            if status_of(error) < 500:
                raise StorageUnfit(
                    f"{error.operation_name} of bucket {self.settings.bucket!r} is refused: "
                    f"{status_of(error)} {code_of(error)}; check the credentials and the bucket"
                ) from error
            raise Unavailable(UNREACHABLE) from error
        except BotoCoreError as error:
            raise Unavailable(UNREACHABLE) from error

    def _s3(self, *, retries: bool = True) -> "S3Client":
        max_attempts = PLAIN_ATTEMPTS if retries else 1
        with self._lock:
            if max_attempts not in self._clients:
                self._clients[max_attempts] = self._make_client(self.settings, max_attempts=max_attempts)
            return self._clients[max_attempts]

    def _pages(self, prefix: str, **options: Any) -> "Iterable[ListObjectsV2OutputTypeDef]":
        paginator = self._s3().get_paginator("list_objects_v2")
        return paginator.paginate(Bucket=self.settings.bucket, Prefix=self._full(prefix), **options)

    def _full(self, key: str) -> str:
        return self.settings.prefix + key

    def _get_or_none(self, key: str) -> StoredObject | None:
        try:
            return self.get(key)
        except ObjectMissing:
            return None

    def _put_if(self, key: str, body: bytes, etag: str | None) -> str:
        """Write under a condition; `etag` None: the key must not exist. Returns the new etag.

        After a time-out or a 5xx the write may have happened, so the key is read before a repetition. If it
        has our own bytes, the write happened. If not, the same condition makes one repetition safe. If that
        condition fails, the first attempt may still have succeeded, so WriteConflict would be wrong then.
        """
        failure: Exception | None = None
        for _ in range(CONDITIONAL_ATTEMPTS):
            try:
                return self._put_once(key, body, etag)
            except WriteConflict as conflict:
                if failure is None:
                    raise
                failure = conflict
            except Unavailable as error:
                failure = error
            found = self._get_or_none(key)
            if found is not None and found.body == body:
                return found.etag
        raise Unavailable(UNREACHABLE) from failure

    def _put_once(self, key: str, body: bytes, etag: str | None) -> str:
        put = partial(
            self._s3(retries=False).put_object, Bucket=self.settings.bucket, Key=self._full(key), Body=body
        )
        with translated(key):
            try:
                response = put(IfNoneMatch="*") if etag is None else put(IfMatch=etag)
            except ClientError as error:
                if status_of(error) in (404, 409, 412) and code_of(error) != "NoSuchBucket":
                    raise WriteConflict(key) from error
                raise
        return response["ETag"]
