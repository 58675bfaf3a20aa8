"""Manifests of jobs that were given up, and processes that discard them late."""

import pytest

from registry.manifests import Manifests
from registry.records import AdapterFile, Manifest, utc_now
from registry.store import ObjectStore, WriteConflict

UID = "uid"
FIRST, SECOND, THIRD = "job-1", "job-2", "job-3"


@pytest.fixture
def manifests(store: ObjectStore) -> Manifests:
    return Manifests(store)


def manifest(store: ObjectStore, job: str) -> Manifest:
    key = f"models/{UID}/revisions/000001/{job}/adapter_model.safetensors"
    store.put(key, b"weights")
    file = AdapterFile(name="adapter_model.safetensors", key=key, size_bytes=7, sha256="0")
    return Manifest(revision=1, parent_revision=0, job=job, base_model="b", created=utc_now(), files=(file,))


def test_discarded_revision_does_not_exist_and_its_files_are_gone(
    manifests: Manifests, store: ObjectStore
) -> None:
    written = manifests.write(UID, manifest(store, FIRST))
    manifests.discard(UID, 1, FIRST, SECOND)
    assert manifests.get(UID, 1) is None and manifests.list(UID) == []
    assert manifests.maker(UID, 1) == SECOND
    assert store.list(written.files[0].key) == []


def test_only_the_next_job_writes_a_discarded_revision(manifests: Manifests, store: ObjectStore) -> None:
    late = manifests.write(UID, manifest(store, FIRST))
    manifests.discard(UID, 1, FIRST, SECOND)
    with pytest.raises(WriteConflict):
        manifests.write(UID, late)
    assert manifests.write(UID, manifest(store, SECOND)).job == SECOND
    assert manifests.list(UID) == [manifests.get(UID, 1)]


def test_late_discard_deletes_nothing_that_was_written_meanwhile(
    manifests: Manifests, store: ObjectStore
) -> None:
    manifests.write(UID, manifest(store, FIRST))
    manifests.discard(UID, 1, FIRST, SECOND)
    published = manifests.write(UID, manifest(store, SECOND))
    Manifests(store).discard(UID, 1, FIRST, SECOND)
    assert manifests.get(UID, 1) == published
    assert store.list(published.files[0].key) != []


def test_reservation_of_a_job_that_was_given_up_goes_to_the_next_job(
    manifests: Manifests, store: ObjectStore
) -> None:
    manifests.write(UID, manifest(store, FIRST))
    manifests.discard(UID, 1, FIRST, SECOND)
    manifests.discard(UID, 1, SECOND, THIRD)
    with pytest.raises(WriteConflict):
        manifests.write(UID, manifest(store, SECOND))
    assert manifests.write(UID, manifest(store, THIRD)).job == THIRD


def test_discard_between_read_and_write_of_another_is_no_error(
    manifests: Manifests, store: ObjectStore
) -> None:
    """The other process writes after this one has read: the condition of the write fails."""
    written = manifests.write(UID, manifest(store, FIRST))

    class Overtaken(ObjectStore):
        def replace(self, key: str, body: bytes, etag: str) -> str:
            raise WriteConflict(key)

    Manifests(Overtaken(store.settings)).discard(UID, 1, FIRST, SECOND)
    assert manifests.get(UID, 1) == written
    assert store.list(written.files[0].key) != []
