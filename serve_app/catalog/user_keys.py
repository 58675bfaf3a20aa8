"""The Catalog's part that checks, creates, lists and revokes API keys, and notes their last use.

A key can only make or revoke another key while it is in the bucket itself. It may be revoked at the same
time. Therefore it is looked up before and after it makes another key. If it was revoked in between, the new
key is revoked too.

Only a few keys of one user are made at the same time, and a revocation does not wait for them: nobody who has
a leaked key can delay its revocation.

A separate thread writes the last use of a key, at most once an hour, so a slow or failed write does not delay
a request. A write that failed is repeated at a later use.
"""

import asyncio
import builtins
import logging
from collections import Counter, defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

from registry.errors import InvalidApiKey, QuotaExceeded, RateLimited
from registry.keys import ApiKeys, ListedKey, hour_of
from registry.records import KeyRecord, utc_now
from registry.tasks import start_apart

logger = logging.getLogger("ray.serve")

MAX_BEING_MADE = 5
"""The largest number of keys of one user that are being made, or wait for that, at the same time."""


class UserKeys:
    """The keys of all users. Raises (all): `Unavailable` when storage cannot be reached."""

    def __init__(self, keys: ApiKeys, max_keys: int, now: Callable[[], datetime] = utc_now) -> None:
        self._keys = keys
        self.max_keys = max_keys
        self._now = now
        self._creations: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._revocations: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._being_made: Counter[str] = Counter()
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="key-use")
        self._hour: datetime | None = None
        self._noted: set[str] = set()
        self._writer.submit(self._mark_unmarked)

    async def authenticate(self, key_hash: str) -> KeyRecord:
        """Returns the key's record and notes its use. Raises: InvalidApiKey: unknown, revoked or expired."""
        record = await self._good(key_hash)
        self._note_use(key_hash, record, hour_of(self._now()))
        return record

    async def create(
        self, user: str, name: str, expires: datetime | None, key_hash: str, maker_hash: str
    ) -> KeyRecord:
        """Makes a key. Raises: QuotaExceeded; RateLimited; InvalidApiKey: the maker is no longer valid."""
        if self._being_made[user] >= MAX_BEING_MADE:
            raise RateLimited(f"{MAX_BEING_MADE} keys of yours are being made; wait for one of them")
        self._being_made[user] += 1
        # A client that goes away must not free the lock while a thread still counts or writes.
        making = start_apart(self._create(user, name, expires, key_hash, maker_hash))
        making.add_done_callback(lambda _: self._made(user))
        return await asyncio.shield(making)

    async def list(self, user: str) -> builtins.list[ListedKey]:
        return await asyncio.to_thread(self._keys.list_of, user)

    async def require(self, user: str, key_id: str, caller_hash: str) -> None:
        """Returns if the user has this key.

        Raises: KeyNotFound: unknown, or another user's; InvalidApiKey: the caller's key is not valid.
        """
        await self._good(caller_hash)
        await asyncio.to_thread(self._keys.require_own, user, key_id)

    async def revoke(self, user: str, key_id: str, caller_hash: str) -> None:
        """Revokes a key.

        Raises: KeyNotFound: unknown, or another user's; InvalidApiKey: the caller's key is not valid.
        """
        await asyncio.shield(self._revoke(user, key_id, caller_hash))

    def _made(self, user: str) -> None:
        self._being_made[user] -= 1
        if not self._being_made[user]:
            del self._being_made[user]

    async def _create(
        self, user: str, name: str, expires: datetime | None, key_hash: str, maker_hash: str
    ) -> KeyRecord:
        async with self._creations[user]:
            await self._good(maker_hash)
            if await asyncio.to_thread(self._keys.has_as_many_as, user, self.max_keys):
                raise QuotaExceeded("you have as many keys as you may have; revoke one first")
            record = await asyncio.to_thread(self._keys.add, key_hash, user, name, expires)
            try:
                await self._good(maker_hash)
            except InvalidApiKey:
                await asyncio.to_thread(self._keys.revoke_own, user, record.id)
                raise
            return record

    async def _revoke(self, user: str, key_id: str, caller_hash: str) -> None:
        # If two keys revoke each other, only one of them is revoked.
        async with self._revocations[user]:
            await self._good(caller_hash)
            await asyncio.to_thread(self._keys.revoke_own, user, key_id)

    async def _good(self, key_hash: str) -> KeyRecord:
        """Returns the record of a valid key. Raises: InvalidApiKey: unknown, revoked or expired."""
        record = await asyncio.to_thread(self._keys.lookup, key_hash)
        if record is None:
            raise InvalidApiKey("the API key is not valid")
        if record.is_expired(self._now()):
            raise InvalidApiKey("the API key has expired")
        return record

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
