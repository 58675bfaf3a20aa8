"""The copy of the files is whole, whatever is deleted meanwhile."""

import hashlib
from collections.abc import Callable

import pytest

from registry.backup.backup import Backup
from registry.backup.manifest import BackupManifest
from registry.backup.restore import Restore
from registry.file_lists import FileLimits, FileLists, content_key
from registry.file_records import FilePurpose, FileRecord, generate_file_id
from registry.layout import open_bucket
from registry.records import utc_now
from registry.store import ObjectStore
from registry.unfinished_files import UnfinishedFiles
from tests.support.memory_s3 import MemoryClient, memory_store, nothing, once_at

USER = "alice"


class World:
    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.store = memory_store(MemoryClient(self.objects))
        open_bucket(self.store)

    def add(self, content: bytes) -> FileRecord:
        record = FileRecord(
            id=generate_file_id(),
            filename="a.jsonl",
            purpose=FilePurpose.FINE_TUNE,
            size_bytes=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
            created=utc_now(),
        )
        self.store.put(content_key(USER, record.id), content)
        FileLists(self.store).add(USER, record, FileLimits(10, 1000))
        return record

    def copied(self, before_read: Callable[[str], None] = nothing) -> tuple[BackupManifest, ObjectStore]:
        """The manifest of a backup, and a new bucket with the backup."""
        place, target = memory_store(), memory_store()
        source = memory_store(MemoryClient(self.objects, before_read))
        manifest = Backup(source, place, nothing).make()
        Restore(place, target, nothing).run()
        return manifest, target


@pytest.fixture
def world() -> World:
    return World()


def test_files_are_copied_with_their_bytes_and_without_marks(world: World) -> None:
    files = world.add(b"one"), world.add(b"two")
    world.store.put(f"files-unfinished/{USER}/{generate_file_id()}", b"{}")
    world.store.put(content_key(USER, generate_file_id()), b"an upload that has not ended")
    manifest, copy = world.copied()
    assert FileLists(copy).load(USER).files == files
    assert copy.get(content_key(USER, files[1].id)).body == b"two"
    assert len(copy.list("files/")) == 3 and not copy.list("files-unfinished/")
    assert manifest.damaged == ()


def test_file_that_is_deleted_meanwhile_is_left_out(world: World) -> None:
    kept, deleted = world.add(b"one"), world.add(b"two")
    key = content_key(USER, deleted.id)
    delete = UnfinishedFiles(world.store).delete_file
    manifest, copy = world.copied(once_at(key, lambda: delete(USER, deleted.id)))
    assert FileLists(copy).load(USER).files == (kept,)
    assert manifest.damaged == ()


@pytest.mark.parametrize("content", [None, b"other"])
def test_damaged_file_is_named_and_the_rest_is_copied(world: World, content: bytes | None) -> None:
    kept, damaged = world.add(b"one"), world.add(b"two")
    key = content_key(USER, damaged.id)
    if content is None:
        world.store.delete(key)
    else:
        world.store.put(key, content)
    manifest, copy = world.copied()
    assert FileLists(copy).load(USER).files == (kept,)
    assert manifest.damaged == (key,)
