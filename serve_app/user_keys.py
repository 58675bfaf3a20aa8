"""The API keys of users, as the Catalog answers for them, and when each was last used.

What a user's keys change of each other happens in order, and only while the key that changes is in the
bucket. Others may revoke one there meanwhile, so a key that makes another is looked for before and after: it
was revoked after both, or what it made goes with it.

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
        record = await self._good(key_hash)
        self._note_use(key_hash, record, hour_of(self._now()))
        return record

    async def create(
        self, user: str, name: str, expires: datetime | None, key_hash: str, maker_hash: str
    ) -> KeyRecord:
        """Raises: QuotaExceeded; InvalidApiKey: its maker is not good any more."""
        # A client that goes away must not free the lock while a thread still counts or writes.
        return await asyncio.shield(self._create(user, name, expires, key_hash, maker_hash))

    async def list(self, user: str) -> builtins.list[ListedKey]:
        return await asyncio.to_thread(self._keys.list_of, user)

    async def revoke(self, user: str, key_id: str, caller_hash: str) -> None:
        """Raises: KeyNotFound: unknown, or another user's; InvalidApiKey: the caller's own is no good now."""
        await asyncio.shield(self._revoke(user, key_id, caller_hash))

    async def _create(
        self, user: str, name: str, expires: datetime | None, key_hash: str, maker_hash: str
    ) -> KeyRecord:
        async with self._lock(user):
            await self._good(maker_hash)
            if await asyncio.to_thread(self._keys.has_as_many_as, user, self._max_keys):
                raise QuotaExceeded("you have as many keys as you may have; revoke one first")
            record = await asyncio.to_thread(self._keys.add, key_hash, user, name, expires)
            try:
                await self._good(maker_hash)
            except InvalidApiKey:
                await asyncio.to_thread(self._keys.revoke_own, user, record.id)
                raise
            return record

    async def _revoke(self, user: str, key_id: str, caller_hash: str) -> None:
        async with self._lock(user):
            await self._good(caller_hash)
            await asyncio.to_thread(self._keys.revoke_own, user, key_id)

    async def _good(self, key_hash: str) -> KeyRecord:
        """Raises: InvalidApiKey: unknown, revoked or expired."""
        record = await asyncio.to_thread(self._keys.lookup, key_hash)
        if record is None:
            raise InvalidApiKey("the API key is not valid")
        if record.is_expired(self._now()):
            raise InvalidApiKey("the API key has expired")
        return record

    def _lock(self, user: str) -> asyncio.Lock:
        return self._locks.setdefault(user, asyncio.Lock())

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
