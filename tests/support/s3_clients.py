"""Clients of S3 whose writes go wrong, or that ignore the conditions of a write."""

import io
from typing import Any

from botocore.exceptions import ClientError, ReadTimeoutError

from registry.client import build_client
from registry.settings import StorageSettings


def always(client: Any) -> Any:
    """A `ClientFactory` of this client alone."""
    return lambda settings, *, max_attempts: client


class Faults:
    """A real client whose next conditional writes go wrong after, or before, they are done."""

    def __init__(self, settings: StorageSettings, *, before: bool) -> None:
        self._client = build_client(settings, max_attempts=1)
        self._before = before
        self.left = 1

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def put_object(self, **arguments: Any) -> Any:
        if self.left == 0:
            return self._client.put_object(**arguments)
        self.left -= 1
        if not self._before:
            self._client.put_object(**arguments)
        raise ReadTimeoutError(endpoint_url="http://storage")


class LaxClient:
    """The few calls of a probe, on a dict; ignores the conditions that it is told to ignore."""

    def __init__(self, *ignored: str) -> None:
        self._ignored = ignored
        self.objects: dict[str, bytes] = {}

    def head_bucket(self, **_: Any) -> None:
        pass

    def put_object(self, *, Key: str, Body: bytes, IfNoneMatch: str = "", IfMatch: str = "", **_: Any) -> Any:
        exists = Key in self.objects
        if IfNoneMatch and exists and "IfNoneMatch" not in self._ignored:
            raise self._error(412)
        if IfMatch and "IfMatch" not in self._ignored and self._etag(Key) != IfMatch:
            raise self._error(412)
        if IfMatch and "implemented" in self._ignored:
            raise self._error(501)
        self.objects[Key] = Body
        return {"ETag": self._etag(Key)}

    def get_object(self, *, Key: str, **_: Any) -> Any:
        return {"Body": io.BytesIO(self.objects[Key]), "ETag": self._etag(Key)}

    def delete_object(self, *, Key: str, **_: Any) -> None:
        self.objects.pop(Key, None)

    def _etag(self, key: str) -> str:
        return repr(self.objects.get(key))

    @staticmethod
    def _error(status: int) -> ClientError:
        return ClientError({"ResponseMetadata": {"HTTPStatusCode": status}}, "PutObject")  # type: ignore
