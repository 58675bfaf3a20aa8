"""A file is whole or absent, however its upload ends, and what dead uploads leave is deleted."""

import hashlib
import threading
from datetime import timedelta

import pytest

from registry.errors import FileNotFound, Unavailable
from registry.file_lists import FileLimits, FileLists, content_key, list_key
from registry.file_records import FilePurpose, FileRecord
from registry.file_uploads import FileUpload
from registry.records import utc_now
from registry.store import ObjectStore
from registry.unfinished_files import PREFIX, Mark, UnfinishedFiles
from tests.support.memory_s3 import MemoryClient, memory_store

USER = "alice"
ROOM = FileLimits(max_files=10, max_bytes=1000)


class World:
    """A bucket in memory, and sweeps of a later time."""

    def __init__(self) -> None:
        self.client = MemoryClient()
        self.store: ObjectStore = memory_store(self.client)
        self.lists = FileLists(self.store)

    def upload(self) -> FileUpload:
        return FileUpload(self.store, USER, utc_now() + timedelta(minutes=1))

    def sweep(self, hours: int = 1, user: str | None = None) -> None:
        UnfinishedFiles(self.store, lambda: utc_now() + timedelta(hours=hours)).sweep(user)

    @property
    def keys(self) -> list[str]:
        return sorted(self.client.objects)


@pytest.fixture
def world() -> World:
    return World()


def named(upload: FileUpload, size_bytes: int) -> FileRecord:
    return FileRecord(
        id=upload.file_id,
        filename="a",
        purpose=FilePurpose.FINE_TUNE,
        size_bytes=size_bytes,
        sha256="",
        created=utc_now(),
    )


@pytest.mark.parametrize("parts", [[b"abc"], [b"ab", b"c"], [b"a", b"bc", b""]])
def test_bytes_are_complete_after_the_end_and_not_before(world: World, parts: list[bytes]) -> None:
    upload = world.upload()
    for part in parts[:-1]:
        upload.write(part)
    mark = f"{PREFIX}{USER}/{upload.file_id}"
    assert world.keys == ([mark] if parts[1:] else [])
    content = upload.finish(parts[-1])
    assert (content.size_bytes, content.sha256) == (3, hashlib.sha256(b"abc").hexdigest())
    assert world.client.objects[content_key(USER, upload.file_id)] == b"abc"
    assert mark in world.keys
    assert world.client.uploads == {}


@pytest.mark.parametrize("num_parts", [0, 1, 2])
@pytest.mark.parametrize("is_finished", [False, True])
def test_nothing_of_an_abandoned_upload_stays(world: World, num_parts: int, is_finished: bool) -> None:
    upload = world.upload()
    for _ in range(num_parts):
        upload.write(b"part")
    if is_finished:
        upload.finish(b"last")
    upload.abandon()
    assert (world.keys, world.client.uploads) == ([], {})
    with pytest.raises(RuntimeError):
        upload.write(b"late")


def test_upload_is_abandoned_after_the_write_in_progress() -> None:
    is_writing, may_write = threading.Event(), threading.Event()

    def wait(key: str) -> None:
        if key.startswith("files/") and not may_write.is_set():
            is_writing.set()
            assert may_write.wait(10)

    client = MemoryClient(before_write=wait)
    upload = FileUpload(memory_store(client), USER, utc_now())
    writing = threading.Thread(target=upload.write, args=(b"part",))
    writing.start()
    assert is_writing.wait(10)
    abandoning = threading.Thread(target=upload.abandon)
    abandoning.start()
    may_write.set()
    writing.join()
    abandoning.join()
    assert (client.objects, client.uploads) == ({}, {})


@pytest.mark.parametrize("is_finished", [False, True])
def test_what_a_dead_upload_leaves_is_swept_when_its_time_is_over(world: World, is_finished: bool) -> None:
    upload = world.upload()
    upload.write(b"part")
    if is_finished:
        upload.finish(b"last")
    world.sweep(hours=0)
    world.sweep(user="bob")
    assert world.keys and bool(world.client.uploads) != is_finished
    world.sweep(user=USER)
    assert (world.keys, world.client.uploads) == ([], {})


def test_mark_that_cannot_be_read_stays_and_keeps_no_other_from_being_swept(world: World) -> None:
    unreadable = [f"{PREFIX}alice", f"{PREFIX}alice/file-1", f"{PREFIX}zoe/file-2"]
    for key in unreadable[:2]:
        world.store.put(key, b"{")
    world.store.put(unreadable[2], Mark(expires=utc_now()).model_dump_json().encode())
    world.store.put(list_key("zoe"), b"{")
    world.upload().finish(b"last")
    world.sweep()
    assert world.keys == sorted([*unreadable, list_key("zoe")])


def test_file_in_the_list_is_never_swept(world: World) -> None:
    upload = world.upload()
    upload.write(b"part")
    upload.finish(b"last")
    world.lists.add(USER, named(upload, 8), ROOM)
    world.sweep()
    assert world.client.objects[content_key(USER, upload.file_id)] == b"partlast"
    assert not [key for key in world.keys if key.startswith(PREFIX)]


def test_deleted_file_is_gone_with_its_bytes(world: World) -> None:
    upload = world.upload()
    upload.finish(b"last")
    world.lists.add(USER, named(upload, 4), ROOM)
    unfinished = UnfinishedFiles(world.store)
    unfinished.delete_file(USER, upload.file_id)
    assert world.keys == [f"files/{USER}/files.json"]
    with pytest.raises(FileNotFound):
        unfinished.delete_file(USER, upload.file_id)
    assert world.keys == [f"files/{USER}/files.json"]


def test_sweep_beside_a_deletion_leaves_its_mark() -> None:
    """Otherwise nobody would delete the bytes if the process died after it had changed the list."""
    marks_at_the_end: list[str] = []

    def sweep_meanwhile(key: str) -> None:
        if key == list_key(USER):
            unfinished.sweep()
        elif key == content_key(USER, upload.file_id):
            marks_at_the_end.extend(key for key in client.objects if key.startswith(PREFIX))

    client = MemoryClient()
    store = memory_store(client)
    unfinished = UnfinishedFiles(memory_store(MemoryClient(client.objects, before_write=sweep_meanwhile)))
    upload = FileUpload(store, USER, utc_now())
    upload.finish(b"last")
    FileLists(store).add(USER, named(upload, 4), ROOM)
    UnfinishedFiles(store).clear(USER, upload.file_id)
    unfinished.delete_file(USER, upload.file_id)
    assert marks_at_the_end == [f"{PREFIX}{USER}/{upload.file_id}"]
    assert list(client.objects) == [list_key(USER)]


def test_deletion_that_died_is_completed(world: World) -> None:
    upload = world.upload()
    upload.finish(b"last")
    world.lists.add(USER, named(upload, 4), ROOM)
    unfinished = UnfinishedFiles(world.store)
    unfinished.mark(USER, upload.file_id, Mark(expires=utc_now()))
    world.lists.remove(USER, upload.file_id)
    unfinished.sweep()
    assert world.keys == [f"files/{USER}/files.json"]


def test_upload_that_storage_has_forgotten_is_unavailable(world: World) -> None:
    upload = world.upload()
    upload.write(b"part")
    world.client.uploads.clear()
    with pytest.raises(Unavailable):
        upload.write(b"part")
    upload.abandon()
    assert world.keys == []
