"""The Catalog lets files exist while there is room for them, and deletes what dead uploads have left."""

from datetime import timedelta

import pytest

from registry.errors import FileNotFound, QuotaExceeded, Superseded
from registry.file_lists import FileLimits, FileLists, content_key
from registry.file_records import FilePurpose, FileRecord
from registry.file_uploads import FileUpload
from registry.leadership import Unopposed
from registry.records import utc_now
from serve_app.catalog.user_files import UserFiles
from tests.support.memory_s3 import MemoryClient, memory_store

USER = "alice"
ROOM = FileLimits(max_files=1, max_bytes=100)


class Former(Unopposed):
    """The leadership of a Catalog that was superseded."""

    async def confirm(self, max_age_s: float = 0) -> None:
        raise Superseded("another cluster has taken over")


class World:
    def __init__(self) -> None:
        self.client = MemoryClient()
        self.store = memory_store(self.client)
        self.files = UserFiles(self.store, ROOM)

    def uploaded(self, purpose: FilePurpose = FilePurpose.FINE_TUNE, minutes: int = 60) -> FileRecord:
        """A file whose bytes are complete, with a mark for so many minutes."""
        upload = FileUpload(self.store, USER, utc_now() + timedelta(minutes=minutes))
        content = upload.finish(b"bytes")
        return FileRecord(
            id=upload.file_id, filename="a", purpose=purpose, created=utc_now(), **content.model_dump()
        )

    def keys(self, kind: str) -> list[str]:
        return [key for key in self.client.objects if key.startswith(kind)]


@pytest.fixture
def world() -> World:
    return World()


async def test_added_file_exists_and_has_no_mark(world: World) -> None:
    record = world.uploaded()
    await world.files.add(USER, record)
    assert FileLists(world.store).load(USER).files == (record,)
    assert world.keys("files-unfinished/") == []


async def test_file_without_room_is_refused_unless_the_service_made_it(world: World) -> None:
    await world.files.require_room(USER, 100)
    await world.files.add(USER, world.uploaded())
    with pytest.raises(QuotaExceeded):
        await world.files.require_room(USER, 0)
    with pytest.raises(QuotaExceeded):
        await world.files.add(USER, world.uploaded())
    await world.files.add(USER, world.uploaded(FilePurpose.FINE_TUNE_RESULTS))
    world.files.limits = FileLimits(max_files=3, max_bytes=100)
    await world.files.require_room(USER, 90)


async def test_deleted_file_is_gone(world: World) -> None:
    record = world.uploaded()
    await world.files.add(USER, record)
    with pytest.raises(FileNotFound):
        await world.files.delete("bob", record.id)
    await world.files.delete(USER, record.id)
    assert world.keys("files") == [f"files/{USER}/files.json"]


async def test_next_upload_of_a_user_deletes_what_dead_ones_have_left(world: World) -> None:
    dead, alive = world.uploaded(minutes=0), world.uploaded()
    await world.files.require_room("bob", 0)
    assert len(world.keys("files/")) == 2
    await world.files.require_room(USER, 0)
    assert world.keys("files/") == [content_key(USER, alive.id)]
    assert dead.id != alive.id


async def test_former_catalog_changes_nothing(world: World) -> None:
    record = world.uploaded(minutes=0)
    before = dict(world.client.objects)
    former = UserFiles(world.store, ROOM, Former())
    for call in (
        former.require_room(USER, 0),
        former.add(USER, record),
        former.delete(USER, record.id),
    ):
        with pytest.raises(Superseded):
            await call
    assert world.client.objects == before
