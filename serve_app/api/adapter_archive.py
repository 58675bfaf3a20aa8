"""Streams the adapter of a revision as one tar archive, without keeping it in memory or on disk.

<model id>-<revision>/adapter_config.json, adapter_model.safetensors, manifest.json
"""

import hashlib
import json
import tarfile
from collections.abc import Iterator
from contextlib import ExitStack

from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from registry.records import AdapterFile, Manifest
from registry.store import ObjectStore
from serve_app.wire.models import RevisionInfo

END_OF_ARCHIVE = bytes(2 * tarfile.BLOCKSIZE)


class AdapterArchive:
    """A tar archive whose unpacked directory PEFT and vLLM can load unchanged."""

    def __init__(self, store: ObjectStore, model_id: str, manifest: Manifest) -> None:
        self.name = f"{model_id}-{manifest.revision}"
        self._store = store
        self._manifest = manifest
        self._description = self._describe()

    @property
    def size_bytes(self) -> int:
        sizes = [*(file.size_bytes for file in self._manifest.files), len(self._description)]
        return sum(tarfile.BLOCKSIZE + size + len(_padding(size)) for size in sizes) + len(END_OF_ARCHIVE)

    def chunks(self) -> Iterator[bytes]:
        """Yields the bytes of the archive.

        Raises: ValueError when a file does not match the manifest; the archive then ends too early.
        """
        for file in self._manifest.files:
            yield self._header(file.name, file.size_bytes)
            yield from self._checked(file)
            yield _padding(file.size_bytes)
        yield self._header("manifest.json", len(self._description))
        yield self._description + _padding(len(self._description)) + END_OF_ARCHIVE

    def _checked(self, file: AdapterFile) -> Iterator[bytes]:
        digest, last = hashlib.sha256(), b""
        for chunk in self._store.read_chunks(file.key):
            digest.update(chunk)
            yield last
            last = chunk
        # The last chunk is sent only after the digest was checked, so a damaged file never arrives complete.
        if digest.hexdigest() != file.sha256:
            raise ValueError(f"{file.name} of {self.name} is damaged")
        yield last

    def _header(self, name: str, size_bytes: int) -> bytes:
        entry = tarfile.TarInfo(f"{self.name}/{name}")
        entry.size = size_bytes
        entry.mtime = int(self._manifest.created.timestamp())
        return entry.tobuf(tarfile.PAX_FORMAT)

    def _describe(self) -> bytes:
        """Returns the manifest for the client. It leaves out the keys of objects in the bucket."""
        files = [file.model_dump(exclude={"key"}) for file in self._manifest.files]
        shown = {
            **RevisionInfo.of(self._manifest).model_dump(mode="json"),
            "base_model": self._manifest.base_model,
        }
        return json.dumps({**shown, "files": files}, indent=2).encode()


class ArchiveResponse(StreamingResponse):
    """A response that sends an archive. It closes `held` at the end, even if the client goes away."""

    def __init__(self, archive: AdapterArchive, held: ExitStack) -> None:
        headers = {
            "Content-Length": str(archive.size_bytes),
            "Content-Disposition": f'attachment; filename="{archive.name}.tar"',
        }
        super().__init__(archive.chunks(), media_type="application/x-tar", headers=headers)
        self._held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._held:
            await super().__call__(scope, receive, send)


def _padding(size_bytes: int) -> bytes:
    return bytes(-size_bytes % tarfile.BLOCKSIZE)
