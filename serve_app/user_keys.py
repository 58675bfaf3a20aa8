"""The API keys of users, as the Catalog answers for them, and when each was last used.

A use is noted beside the request: one thread of its own writes, at most once an hour for each key, so that
a write that is slow or fails holds up no request. One that fails is made with a later use.
"""

import asyncio
import builtins
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

from registry.errors import InvalidApiKey, QuotaExceeded
from registry.keys import ApiKeys, ListedKey, hour_of
from registry.records import KeyRecord, utc_now

logger = logging.getLogger("ray.serve")


class UserKeys:
    """Raises (all): `Unavailable` when storage cannot be reached."""

    def __init__(self, keys: ApiKeys, max_keys: int, now: Callable[[], datetime] = utc_now) -> None:
        self._keys = keys
        self._max_keys = max_keys
        self._now = now
        self._locks: dict[str, asyncio.Lock] = {}
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="key-use")
        self._hour: datetime | None = None
        self._noted: set[str] = set()
        self._writer.submit(self._mark_unmarked)

    async def authenticate(self, key_hash: str) -> KeyRecord:
        """Raises: InvalidApiKey: unknown, revoked or expired."""
        record = await asyncio.to_thread(self._keys.lookup, key_hash)
        if record is None:
            raise InvalidApiKey("the API key is not valid")
        now = self._now()
        if record.is_expired(now):
            raise InvalidApiKey("the API key has expired")
        self._note_use(key_hash, record, hour_of(now))
        return record

    async def create(self, user: str, name: str, expires: datetime | None, key_hash: str) -> KeyRecord:
        """Raises: QuotaExceeded."""
        # A client that goes away must not free the lock while a thread still counts or writes.
        return await asyncio.shield(self._create(user, name, expires, key_hash))

    async def list(self, user: str) -> builtins.list[ListedKey]:
        return await asyncio.to_thread(self._keys.list_of, user)

    async def revoke(self, user: str, key_id: str) -> None:
        """Raises: KeyNotFound: unknown, or another user's."""
        await asyncio.to_thread(self._keys.revoke_own, user, key_id)

    async def _create(self, user: str, name: str, expires: datetime | None, key_hash: str) -> KeyRecord:
        async with self._locks.setdefault(user, asyncio.Lock()):
            if await asyncio.to_thread(self._keys.has_as_many_as, user, self._max_keys):
                raise QuotaExceeded("you have as many keys as you may have; revoke one first")
            return await asyncio.to_thread(self._keys.add, key_hash, user, name, expires)

    def _note_use(self, key_hash: str, record: KeyRecord, hour: datetime) -> None:
        if hour != self._hour:
            self._hour, self._noted = hour, set()
        if key_hash not in self._noted:
            self._noted.add(key_hash)
            self._writer.submit(self._write_use, key_hash, record, hour)

    def _write_use(self, key_hash: str, record: KeyRecord, hour: datetime) -> None:
        try:
            self._keys.mark_used(key_hash, record, hour)
        except Exception as error:
            self._noted.discard(key_hash)
            logger.warning("the last use of %s is not written yet: %s", record.id, type(error).__name__)

    def _mark_unmarked(self) -> None:
        try:
            self._keys.mark_unmarked()
        except Exception as error:
            logger.warning("keys without a marker were not looked for: %s", type(error).__name__)
