"""Receives the files of users: from the body of a request into the bucket, one part at a time.

    pieces of the body -> UploadForm -> parts of 8 MiB -> FileUpload: the bucket
                                                       -> FileInProgress: the check of the lines
    -> Catalog.add_file: the list of files has the file, which exists from now on

Each upload has about three parts in memory. A user has few uploads at a time, and all users together have a
limited number. All of them share a few threads of their own, so that slow storage does not hold the threads
of other requests. If anything goes wrong before
the list has the file, nothing of it stays. If the ingress dies, the Catalog deletes later what is left.
"""

import asyncio
import logging
from collections.abc import AsyncIterable, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import NamedTuple, Protocol, TypeVar

from registry.audit import Action
from registry.errors import InvalidApiKey, InvalidRequest, QuotaExceeded, Superseded
from registry.file_records import FileCheck, FilePurpose, FileRecord
from registry.file_uploads import PART_BYTES, Content, FileUpload
from registry.records import utc_now
from registry.store import ObjectStore
from registry.tasks import BackgroundTasks
from serve_app.api.audit import AuditedRequest
from serve_app.api.file_checks import BlockCheck, FileInProgress
from serve_app.api.places import Places
from serve_app.api.upload_form import FILE, FORM_BYTES, UploadForm
from serve_app.settings import Settings

NUM_THREADS = 4
EVERYBODY = "everybody"
MARGIN = timedelta(hours=1)
"""The time after the longest upload until others may delete what is left of it."""

logger = logging.getLogger("ray.serve")

T = TypeVar("T")


class FileCatalog(Protocol):
    """The methods of CatalogClient that uploads use."""

    async def require_room(self, user: str, size_bytes: int) -> None: ...

    async def add_file(self, user: str, record: FileRecord) -> None: ...


class ReceivedFile(NamedTuple):
    """A file whose bytes are in the bucket, and that no list names yet."""

    record: FileRecord
    upload: FileUpload


class FileUploads:
    """The uploads at one ingress replica. `part_bytes` is for tests."""

    def __init__(
        self,
        store: ObjectStore,
        catalog: FileCatalog,
        check: BlockCheck,
        settings: Callable[[], Settings],
        part_bytes: int = PART_BYTES,
    ) -> None:
        self._store = store
        self._catalog = catalog
        self._check = check
        self._settings = settings
        self._part_bytes = part_bytes
        self._threads = ThreadPoolExecutor(NUM_THREADS, thread_name_prefix="file-upload")
        self._background = BackgroundTasks()
        self._places_of_users = Places(
            lambda: settings().limits.max_concurrent_uploads_per_user,
            "you have {limit} uploads in progress; wait for one of them",
        )
        self._all_places = Places(
            lambda: settings().ingress.max_concurrent_uploads,
            "{limit} uploads of all users are in progress; try again",
        )

    @contextmanager
    def place_of(self, user: str) -> Iterator[None]:
        """Holds a place for an upload during the context. Raises: RateLimited: there is none."""
        with self._places_of_users.held_by(user) as of_user, self._all_places.held_by(EVERYBODY) as of_all:
            of_user(1)
            of_all(1)
            yield

    async def receive(
        self, user: str, content_type: str | None, announced_bytes: int, pieces: AsyncIterable[bytes]
    ) -> ReceivedFile:
        """Writes the file of a form to the bucket. `announced_bytes` is the size of the form; 0: unknown.

        Raises: InvalidRequest, QuotaExceeded, Unavailable, and the errors of `pieces`.
        """
        form = UploadForm(content_type)
        await self._catalog.require_room(user, max(0, announced_bytes - FORM_BYTES))
        expires = utc_now() + timedelta(seconds=self._settings().ingress.upload_timeout_s) + MARGIN
        upload = FileUpload(self._store, user, expires)
        try:
            content, check = await self._write(form, upload, pieces)
        except BaseException:
            self._background.start(self._abandon(upload))
            raise
        record = FileRecord(
            id=upload.file_id,
            filename=form.finish(),
            purpose=FilePurpose.FINE_TUNE,
            size_bytes=content.size_bytes,
            sha256=content.sha256,
            created=utc_now(),
            check=check,
        )
        return ReceivedFile(record, upload)

    async def keep(
        self,
        user: str,
        received: ReceivedFile,
        audit: AuditedRequest,
        check_key: Callable[[], Awaitable[object]],
    ) -> None:
        """Lets a received file exist, even if the client goes away meanwhile.

        A file may take an hour to arrive. Therefore `check_key` checks the key of the request again.

        Raises: InvalidApiKey, QuotaExceeded, Superseded, Unavailable.
        """
        await asyncio.shield(self._background.start(self._keep(user, received, audit, check_key)))

    async def _keep(
        self,
        user: str,
        received: ReceivedFile,
        audit: AuditedRequest,
        check_key: Callable[[], Awaitable[object]],
    ) -> None:
        try:
            await check_key()
            async with audit.recorded(Action.CREATE_FILE, file=received.record.id):
                await self._catalog.add_file(user, received.record)
        except (InvalidApiKey, QuotaExceeded, Superseded):
            await self._abandon(received.upload)
            raise
        # After another error the list may have the file. The Catalog's next sweep finds out.

    async def _abandon(self, upload: FileUpload) -> None:
        try:
            await self._in_thread(upload.abandon)
        except Exception as error:
            logger.warning("an upload that failed is deleted later: %s", type(error).__name__)

    async def _write(
        self, form: UploadForm, upload: FileUpload, pieces: AsyncIterable[bytes]
    ) -> tuple[Content, FileCheck]:
        check = FileInProgress(self._check)
        max_bytes = self._settings().ingress.max_file_bytes
        num_bytes = 0
        async for piece in pieces:
            form.write(piece)
            if num_bytes + len(form.content) > max_bytes:
                raise InvalidRequest(f"{FILE}: the file is over {max_bytes} bytes", FILE)
            if len(form.content) >= self._part_bytes:
                part = form.take()
                num_bytes += len(part)
                await asyncio.gather(self._in_thread(upload.write, part), check.add(part))
        form.finish()
        last = form.take()
        if not num_bytes + len(last):
            raise InvalidRequest(f"{FILE}: the file is empty", FILE)
        return await asyncio.gather(self._in_thread(upload.finish, last), check.finish(last))

    async def _in_thread(self, work: Callable[..., T], *arguments: bytes) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)
