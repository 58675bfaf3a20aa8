"""The archive of a revision, on a real object store."""

import io
import json
import tarfile
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from starlette.types import Message

from registry.errors import RateLimited
from registry.records import Manifest
from registry.revisions import Revisions
from registry.store import ObjectStore
from serve_app.api.adapter_archive import AdapterArchive, ArchiveResponse
from serve_app.api.places import Places

WEIGHTS = bytes(range(256)) * 9000


@pytest.fixture
def manifest(store: ObjectStore, tmp_path: Path) -> Manifest:
    (tmp_path / "adapter_config.json").write_text('{"r": 8}')
    (tmp_path / "adapter_model.safetensors").write_bytes(WEIGHTS)
    made = {
        "revision": 3,
        "parent_revision": 2,
        "job": "job-1",
        "base_model": "base",
        "metrics": {"loss": 0.5},
    }
    return Revisions(store).publish("uid", tmp_path, **made)  # type: ignore[arg-type]


def test_archive_unpacks_to_what_was_published(store: ObjectStore, manifest: Manifest) -> None:
    archive = AdapterArchive(store, "model", manifest)
    content = b"".join(archive.chunks())
    assert len(content) == archive.size_bytes
    with tarfile.open(fileobj=io.BytesIO(content)) as unpacked:
        files = {entry.name: unpacked.extractfile(entry).read() for entry in unpacked}  # type: ignore[union-attr]
    assert files.pop("model-3/adapter_model.safetensors") == WEIGHTS
    assert files.pop("model-3/adapter_config.json") == b'{"r": 8}'
    described = json.loads(files.pop("model-3/manifest.json"))
    assert (described["revision"], described["job"], described["metrics"]) == (3, "job-1", {"loss": 0.5})
    assert files == {}


def test_archive_tells_nothing_of_the_bucket(store: ObjectStore, manifest: Manifest) -> None:
    content = b"".join(AdapterArchive(store, "model", manifest).chunks())
    for secret in (b"models/uid", store.settings.bucket.encode(), manifest.files[0].key.encode()):
        assert secret not in content


def test_damaged_weights_never_arrive_whole(store: ObjectStore, manifest: Manifest) -> None:
    weights = next(file for file in manifest.files if file.name.endswith(".safetensors"))
    store.put(weights.key, b"x" + WEIGHTS[1:])
    archive = AdapterArchive(store, "model", manifest)
    arrived = 0
    with pytest.raises(ValueError, match="damaged"):
        for chunk in archive.chunks():
            arrived += len(chunk)
    assert arrived < archive.size_bytes - 1024


@pytest.mark.parametrize("client_stays", [True, False])
async def test_a_download_has_its_place_until_it_is_sent_or_its_client_has_gone(
    store: ObjectStore, manifest: Manifest, client_stays: bool
) -> None:
    downloads, held = Places(lambda: 1, "you have 1 download in progress"), ExitStack()
    held.enter_context(downloads.held_by("alice"))(1)
    response = ArchiveResponse(AdapterArchive(store, "model", manifest), held)
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        with pytest.raises(RateLimited), downloads.held_by("alice") as take:
            take(1)
        sent.append(message)
        if len(sent) == 2 and not client_stays:
            raise OSError("the client has gone")

    scope = {"type": "http", "asgi": {"spec_version": "2.4"}}
    with suppress(Exception):
        await response(scope, receive, send)
    assert (len(sent) > 2) is client_stays
    with downloads.held_by("alice") as take:
        take(1)
