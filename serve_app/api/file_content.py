"""Streams the bytes of a user's file, without keeping them in memory or on disk."""

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack
from urllib.parse import quote

from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from registry.file_lists import content_key
from registry.file_records import FileRecord
from registry.store import ObjectStore

MEDIA_TYPE = "application/octet-stream"


class FileContent(StreamingResponse):
    """A response with the bytes of a file. It closes `held` at the end, even if the client goes away.

    No browser shows the bytes as a page of this service, whatever they are.
    """

    def __init__(self, store: ObjectStore, user: str, record: FileRecord, held: ExitStack) -> None:
        headers = {
            "Content-Length": str(record.size_bytes),
            "Content-Disposition": f"attachment; filename*=UTF-8''{quote(record.filename, safe='')}",
            "X-Content-Type-Options": "nosniff",
        }
        chunks = checked(store.read_chunks(content_key(user, record.id)), record)
        super().__init__(chunks, media_type=MEDIA_TYPE, headers=headers)
        self._held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._held:
            await super().__call__(scope, receive, send)


def checked(chunks: Iterator[bytes], record: FileRecord) -> Iterator[bytes]:
    """Yields the chunks. The last one comes after the digest was checked, so no damaged file arrives whole.

    Raises: ValueError: the bytes are not those of the record.
    """
    digest, last = hashlib.sha256(), b""
    for chunk in chunks:
        digest.update(chunk)
        yield last
        last = chunk
    if digest.hexdigest() != record.sha256:
        raise ValueError(f"{record.id} is damaged")
    yield last
