"""The list of a user's files is exact, whoever writes at the same time."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from registry.errors import FileNotFound, QuotaExceeded
from registry.file_lists import FileLimits, FileLists, list_key
from registry.file_records import FilePurpose, FileRecord, generate_file_id
from registry.records import utc_now
from registry.store import ObjectStore
from tests.support.memory_s3 import MemoryClient, memory_store, once_at

USER = "alice"
ROOM = FileLimits(max_files=3, max_bytes=100)


def record(size_bytes: int = 10) -> FileRecord:
    return FileRecord(
        id=generate_file_id(),
        filename="../a.jsonl",
        purpose=FilePurpose.FINE_TUNE,
        size_bytes=size_bytes,
        sha256="0" * 64,
        created=utc_now(),
    )


@pytest.fixture
def store() -> ObjectStore:
    return memory_store()


@pytest.fixture
def lists(store: ObjectStore) -> FileLists:
    return FileLists(store)


def test_files_are_listed_oldest_first(lists: FileLists) -> None:
    records = [record() for _ in range(3)]
    for each in records:
        lists.add(USER, each, ROOM)
    assert lists.load(USER).files == tuple(records)
    assert lists.find(USER, records[1].id) == records[1]
    lists.remove(USER, records[1].id)
    assert lists.load(USER).files == (records[0], records[2])


def test_file_of_another_user_does_not_exist(lists: FileLists) -> None:
    mine = record()
    lists.add(USER, mine, ROOM)
    for call in (lists.find, lists.remove):
        with pytest.raises(FileNotFound) as of_another:
            call("bob", mine.id)
        with pytest.raises(FileNotFound) as unknown:
            call("bob", generate_file_id())
        assert of_another.value.args == unknown.value.args
    assert lists.load(USER).files == (mine,)


def test_file_that_is_added_again_is_listed_once(lists: FileLists) -> None:
    mine = record(100)
    lists.add(USER, mine, ROOM)
    lists.add(USER, mine, ROOM)
    assert lists.load(USER).files == (mine,)


@pytest.mark.parametrize(
    ("sizes", "added", "message"),
    [([1, 1, 1], 1, "you have 3 files"), ([60, 40], 1, "more than 100 bytes"), ([], 101, "more than 100")],
)
def test_file_without_room_is_refused(lists: FileLists, sizes: list[int], added: int, message: str) -> None:
    for size in sizes:
        lists.add(USER, record(size), ROOM)
    with pytest.raises(QuotaExceeded, match=message):
        lists.require_room(USER, added, ROOM)
    with pytest.raises(QuotaExceeded, match=message):
        lists.add(USER, record(added), ROOM)
    assert len(lists.load(USER).files) == len(sizes)
    lists.add(USER, record(added), None)


def test_last_room_is_given_once(store: ObjectStore) -> None:
    def add(number: int) -> bool:
        try:
            FileLists(store).add(USER, record(), FileLimits(max_files=5, max_bytes=100))
        except QuotaExceeded:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(add, range(16))) == 5
    assert len(FileLists(store).load(USER).files) == 5


def test_change_of_another_writer_is_not_lost() -> None:
    objects: dict[str, bytes] = {}
    calls: list[Callable[[], None]] = []
    hook = once_at(list_key(USER), lambda: calls.pop()())
    lists, other = (FileLists(memory_store(MemoryClient(objects, read))) for read in (hook, lambda _: None))
    first, second = record(), record()
    calls.append(lambda: other.add(USER, first, ROOM))
    lists.add(USER, second, ROOM)
    assert set(lists.load(USER).files) == {first, second}
