"""The Catalog's part that changes the lists of files, and deletes what dead uploads have left.

Only the Catalog that leads changes a list. The lists are written under conditions, so no change is lost if
another cluster leads from one moment to the next.
"""

import asyncio
from contextlib import suppress
from weakref import WeakValueDictionary

from registry.errors import Unavailable
from registry.file_lists import FileLimits, FileLists
from registry.file_records import FilePurpose, FileRecord
from registry.leadership import Unopposed
from registry.store import ObjectStore
from registry.unfinished_files import UnfinishedFiles


class UserFiles:
    """The files of all users. Raises (all): Unavailable, Superseded."""

    def __init__(self, store: ObjectStore, limits: FileLimits, leadership: Unopposed | None = None) -> None:
        self.limits = limits
        self._lists = FileLists(store)
        self._unfinished = UnfinishedFiles(store)
        self._leadership = leadership or Unopposed()
        self._changes: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def sweep(self) -> None:
        """Deletes what dead uploads of all users have left."""
        self._unfinished.sweep()

    async def require_room(self, user: str, size_bytes: int) -> None:
        """Refuses an upload for which there is no room before it is read. Raises: QuotaExceeded."""
        await self._leadership.confirm()
        await asyncio.to_thread(self._unfinished.sweep, user)
        await asyncio.to_thread(self._lists.require_room, user, size_bytes, self.limits)

    async def add(self, user: str, record: FileRecord) -> None:
        """Lets a file exist whose bytes are complete. Raises: QuotaExceeded, unless the service made it."""
        await self._leadership.confirm()
        limits = None if record.purpose is FilePurpose.FINE_TUNE_RESULTS else self.limits
        async with self._change_of(user):
            await asyncio.to_thread(self._lists.add, user, record, limits)
            with suppress(Unavailable):  # the file exists; the next sweep removes the mark
                await asyncio.to_thread(self._unfinished.clear, user, record.id)

    async def delete(self, user: str, file_id: str) -> None:
        """Deletes a file. Raises: FileNotFound: unknown, or another user's."""
        await self._leadership.confirm()
        async with self._change_of(user):
            await asyncio.to_thread(self._unfinished.delete_file, user, file_id)

    def _change_of(self, user: str) -> asyncio.Lock:
        """Returns the lock that changes of one user's files wait for."""
        return self._changes.setdefault(user, asyncio.Lock())
