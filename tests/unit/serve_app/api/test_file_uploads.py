"""A file goes from the pieces of a body into the bucket in parts, or nothing of it stays."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from typing import Any

import pytest

from registry.audit import AuditLog
from registry.errors import InvalidApiKey, InvalidRequest, QuotaExceeded, RateLimited, Unavailable
from registry.file_lists import FileLimits, FileLists, content_key
from registry.file_records import FileCheck, FileFormat, FileRecord
from registry.records import utc_now
from registry.settings import StorageSettings
from serve_app.api.audit import AuditedRequest, AuditTrail
from serve_app.api.file_uploads import FileUploads, ReceivedFile
from serve_app.api.streamed_body import ClientGone
from serve_app.api.upload_form import FORM_BYTES
from serve_app.catalog.user_files import UserFiles
from serve_app.settings import Settings
from serve_app.wire.training_files import check_block
from tests.support.catalogs import settings_of
from tests.support.memory_s3 import MemoryClient, memory_store
from tests.unit.serve_app.api.test_upload_form import CONTENT_TYPE, FILE, PURPOSE, form_of

USER = "alice"
PART_BYTES = 100
MAX_FILE_BYTES = 2000
ROOM = FileLimits(max_files=3, max_bytes=3000)
LINE = json.dumps(
    {"messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}]}
).encode()


class World:
    """The uploads of an ingress replica, with a bucket in memory and a Catalog without Ray."""

    def __init__(self) -> None:
        self.client = MemoryClient()
        self.store = memory_store(self.client)
        self.lists = FileLists(self.store)
        self.files = UserFiles(self.store, ROOM)
        self.blocks: list[bytes] = []
        self.fault: Exception | None = None
        self.is_revoked = False
        self.error_after_adding: Exception | None = None
        self.may_add = asyncio.Event()
        self.may_add.set()
        self.is_adding = asyncio.Event()
        settings = settings_of(StorageSettings())
        ingress = settings.ingress.model_copy(update={"max_file_bytes": MAX_FILE_BYTES})
        self.settings: Settings = settings.model_copy(update={"ingress": ingress})
        self.uploads = FileUploads(self.store, self, self.check, lambda: self.settings, PART_BYTES)
        trail = AuditTrail(AuditLog(self.store))
        self.audit = AuditedRequest(trail, USER, "key-1", "request-1")

    async def require_room(self, user: str, size_bytes: int) -> None:
        await self.files.require_room(user, size_bytes)

    async def add_file(self, user: str, record: FileRecord) -> None:
        self.is_adding.set()
        await self.may_add.wait()
        await self.files.add(user, record)
        if self.error_after_adding is not None:
            raise self.error_after_adding

    async def check(self, block: bytes, before: FileCheck) -> FileCheck:
        if self.fault is not None:
            raise self.fault
        self.blocks.append(block)
        return check_block(block, before)

    async def receive(self, body: bytes, size: int = 64, error: Exception | None = None) -> ReceivedFile:
        async def pieces() -> AsyncIterator[bytes]:
            for start in range(0, len(body), size):
                yield body[start : start + size]
            if error is not None:
                raise error

        return await self.uploads.receive(USER, CONTENT_TYPE, 0, pieces())

    async def check_key(self) -> None:
        if self.is_revoked:
            raise InvalidApiKey("the API key is not valid")

    async def keep(self, received: ReceivedFile) -> None:
        await self.uploads.keep(USER, received, self.audit, self.check_key)

    async def upload(self, content: bytes) -> FileRecord:
        received = await self.receive(body_of(content))
        await self.keep(received)
        return received.record

    @property
    def traces(self) -> list[str]:
        """The keys of files and of marks, apart from lists, and the multipart uploads."""
        keys = [key for key in self.client.objects if key.startswith("files")]
        return [key for key in keys if not key.endswith("/files.json")] + list(self.client.uploads)


def body_of(content: bytes) -> bytes:
    return form_of((PURPOSE, b"fine-tune"), (FILE, content))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


@pytest.fixture
async def world() -> World:
    return World()


@pytest.mark.parametrize("num_lines", [1, 10])
async def test_file_is_whole_checked_and_listed(world: World, num_lines: int) -> None:
    content = (LINE + b"\n") * num_lines
    record = await world.upload(content)
    assert world.client.objects[content_key(USER, record.id)] == content
    assert world.lists.load(USER).files == (record,)
    assert world.traces == [content_key(USER, record.id)]
    assert (record.filename, record.size_bytes) == ("a.jsonl", len(content))
    assert record.check is not None and record.check.errors == ()
    assert (record.check.format, record.check.num_records) == (FileFormat.CONVERSATIONS, num_lines)
    assert b"".join(world.blocks) == content


async def test_no_part_is_larger_than_it_must_be(world: World) -> None:
    sizes: list[int] = []
    world.client.upload_part = _noting(world.client.upload_part, sizes)  # type: ignore[method-assign]
    await world.upload(LINE * 10)
    assert sizes and max(sizes) < PART_BYTES + 64


def _noting(call: Callable[..., Any], sizes: list[int]) -> Callable[..., Any]:
    def noting(**arguments: Any) -> Any:
        sizes.append(len(arguments["Body"]))
        return call(**arguments)

    return noting


async def test_lines_that_cannot_be_used_are_named_and_the_file_stays(world: World) -> None:
    record = await world.upload(LINE + b"\n{\n")
    assert record.check is not None and record.check.errors == ("line 2: the line is not valid JSON",)
    assert world.lists.load(USER).files == (record,)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (body_of(b""), "file: the file is empty"),
        (body_of(b"x" * (MAX_FILE_BYTES + 1)), f"file: the file is over {MAX_FILE_BYTES} bytes"),
        (body_of(LINE * 10)[:-8], "the form ends too early"),
        (form_of((FILE, LINE * 10), (PURPOSE, b"batch")), "purpose: the only purpose"),
    ],
)
async def test_nothing_of_a_refused_file_stays(world: World, body: bytes, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        await world.receive(body)
    await until(lambda: world.traces == [])


@pytest.mark.parametrize("error", [ClientGone(), Unavailable("storage")])
async def test_nothing_of_a_broken_upload_stays(world: World, error: Exception) -> None:
    with pytest.raises(type(error)):
        await world.receive(body_of(LINE * 10)[:-100], error=error)
    await until(lambda: world.traces == [])


async def test_nothing_stays_if_the_check_fails(world: World) -> None:
    world.fault = Unavailable("no process")
    with pytest.raises(Unavailable):
        await world.receive(body_of((LINE + b"\n") * 10))
    await until(lambda: world.traces == [])


async def test_upload_without_room_is_refused_before_it_is_read(world: World) -> None:
    async def nothing() -> AsyncIterator[bytes]:
        raise AssertionError("the body is read")
        yield b""

    announced = ROOM.max_bytes + FORM_BYTES
    with pytest.raises(QuotaExceeded):
        await world.uploads.receive(USER, CONTENT_TYPE, announced + 1, nothing())
    with pytest.raises(AssertionError):
        await world.uploads.receive(USER, CONTENT_TYPE, announced, nothing())


async def test_nothing_of_a_file_stays_for_which_there_is_no_room_at_its_end(world: World) -> None:
    received = [await world.receive(body_of(LINE * 10)) for _ in range(ROOM.max_files + 1)]
    for each in received[:-1]:
        await world.keep(each)
    with pytest.raises(QuotaExceeded):
        await world.keep(received[-1])
    assert len(world.traces) == ROOM.max_files


async def test_nothing_of_a_file_stays_whose_key_was_revoked_meanwhile(world: World) -> None:
    received = await world.receive(body_of(LINE * 10))
    world.is_revoked = True
    with pytest.raises(InvalidApiKey):
        await world.keep(received)
    assert world.traces == []
    assert world.lists.load(USER).files == ()


async def test_file_stays_that_the_list_has_after_an_error(world: World) -> None:
    received = await world.receive(body_of(LINE * 10))
    world.error_after_adding = Unavailable("the Catalog died")
    with pytest.raises(Unavailable):
        await world.keep(received)
    assert world.lists.load(USER).files == (received.record,)
    assert content_key(USER, received.record.id) in world.traces


async def test_client_that_leaves_at_the_end_does_not_stop_the_file(world: World) -> None:
    received = await world.receive(body_of(LINE))
    world.may_add.clear()
    keeping = asyncio.create_task(world.keep(received))
    await world.is_adding.wait()
    keeping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await keeping
    world.may_add.set()
    await until(lambda: world.lists.load(USER).files == (received.record,))


async def test_file_is_in_the_audit_log(world: World) -> None:
    record = await world.upload(LINE)
    (entry,) = AuditLog(world.store).entries(record.created.replace(hour=0, minute=0))
    assert (entry.action, entry.outcome, entry.targets) == ("create_file", "done", {"file": record.id})


async def test_user_has_few_uploads_at_a_time(world: World) -> None:
    limit = world.settings.limits.max_concurrent_uploads_per_user
    with ExitStack() as held:
        for _ in range(limit):
            held.enter_context(world.uploads.place_of(USER))
        with pytest.raises(RateLimited, match=f"you have {limit} uploads"), world.uploads.place_of(USER):
            pass
        with world.uploads.place_of("bob"):
            pass
    with world.uploads.place_of(USER):
        pass


async def test_all_users_together_have_a_limited_number_of_uploads_at_a_time(world: World) -> None:
    """Each upload has about three parts in the memory of the ingress replica."""
    ingress = world.settings.ingress.model_copy(update={"max_concurrent_uploads": 3})
    world.settings = world.settings.model_copy(update={"ingress": ingress})
    with ExitStack() as held:
        for number in range(3):
            held.enter_context(world.uploads.place_of(f"user-{number}"))
        for _ in range(2):
            with pytest.raises(RateLimited, match="3 uploads of all users"), world.uploads.place_of(USER):
                pass
    limit = world.settings.limits.max_concurrent_uploads_per_user
    with ExitStack() as held:
        for _ in range(limit):
            held.enter_context(world.uploads.place_of(USER))


async def test_what_is_left_of_a_dead_upload_is_kept_as_long_as_it_could_be_alive(world: World) -> None:
    await world.receive(body_of(LINE * 10))
    (mark,) = [key for key in world.client.objects if key.startswith("files-unfinished/")]
    expires = json.loads(world.client.objects[mark])["expires"]
    seconds = world.settings.ingress.upload_timeout_s
    assert (type(utc_now()).fromisoformat(expires) - utc_now()).total_seconds() > seconds + 60
