"""Finds the caller of a request: `Authorization: Bearer <key>` -> Caller.

The record of a valid key is used for two seconds. After that it is looked up again, so a revoked key is
refused soon. While storage cannot be reached, the last record is used for up to ten minutes. A key is refused
at once when it expires. Unknown keys are never remembered, so a new key works immediately.

A key that was valid in the last ten minutes is presumed valid. It is looked up again while its request is
read and answered, and api.key_check sends nothing before the result is known. Requests that change something
wait for the result first.
"""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime

from cachetools import LRUCache

from registry.errors import InvalidApiKey, Unavailable
from registry.keys import hash_key
from registry.records import KeyRecord, utc_now
from serve_app.remote_errors import as_tiger_error
from serve_app.shared_tasks import SharedTasks

FRESH_S = 2.0
STALE_S = 600.0
MAX_KEYS = 10_000
MAX_KEY_LENGTH = 256


def presented_hash(authorization: str | None) -> str:
    """Returns the hash of the key in an `Authorization` header. Raises: InvalidApiKey: malformed."""
    scheme, _, key = (authorization or "").partition(" ")
    key = key.strip()
    if scheme.lower() != "bearer" or not key or len(key) > MAX_KEY_LENGTH:
        raise InvalidApiKey("give your API key as `Authorization: Bearer <key>`")
    return hash_key(key)


@dataclass(frozen=True)
class Caller:
    """The user of a request and the hash of the key.

    `check` waits until it is known whether the key is still valid. None: it is known to be valid.
    `check` raises: InvalidApiKey, Unavailable.
    """

    user: str
    key_hash: str
    check: Callable[[], Awaitable[KeyRecord]] | None = None


class Authenticator:
    """Finds callers by their keys and remembers the records of valid keys.

    `lookup` returns the record of a key by its hash, or raises InvalidApiKey. `clock` returns seconds since
    an arbitrary start. `now` returns the time that decides whether a key has expired.
    """

    def __init__(
        self,
        lookup: Callable[[str], Awaitable[KeyRecord]],
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._lookup = lookup
        self._clock = clock
        self._now = now
        self._known: LRUCache[str, tuple[KeyRecord, float]] = LRUCache(MAX_KEYS)
        self._checks: SharedTasks[KeyRecord] = SharedTasks()

    def is_stranger(self, key_hash: str) -> bool:
        """Returns True if a new lookup is needed: the key is not remembered, and no lookup of it runs."""
        _, asked_at = self._known.get(key_hash, (None, -STALE_S))
        return self._clock() - asked_at >= STALE_S and not self._checks.is_running(key_hash)

    async def caller(self, key_hash: str) -> Caller:
        """Returns the caller with this key. A key that is not known is looked up first.

        Raises: InvalidApiKey, Unavailable.
        """
        known, asked_at = self._known.get(key_hash, (None, -STALE_S))
        age_s = self._clock() - asked_at
        if known is not None and (age_s < FRESH_S or known.is_expired(self._now())):
            return Caller((await self.record(key_hash)).user, key_hash)
        check = self._checks.join(key_hash, lambda: self.record(key_hash))
        if known is None or age_s >= STALE_S:
            return Caller((await check()).user, key_hash)
        return Caller(known.user, key_hash, check)

    async def recheck(self, key_hash: str) -> KeyRecord:
        """Checks a key again that was valid before. Raises: InvalidApiKey, Unavailable."""
        return await self._checks.join(key_hash, lambda: self.record(key_hash))()

    async def record(self, key_hash: str) -> KeyRecord:
        """Returns the record of the key with this hash. Raises: InvalidApiKey, Unavailable."""
        record = await self._record(key_hash)
        if record.is_expired(self._now()):
            raise InvalidApiKey("the API key has expired")
        return record

    async def _record(self, key_hash: str) -> KeyRecord:
        """Returns the remembered record, or looks it up. The key may have expired."""
        asking_at = self._clock()
        known, asked_at = self._known.get(key_hash, (None, -STALE_S))
        age_s = asking_at - asked_at
        if known is not None and (age_s < FRESH_S or known.is_expired(self._now())):
            return known
        try:
            record = await self._ask(key_hash)
        except Unavailable:
            if known is not None and age_s < STALE_S:
                return known
            raise
        except InvalidApiKey:
            self._known.pop(key_hash, None)
            raise
        self._known[key_hash] = (record, asking_at)
        return record

    async def _ask(self, key_hash: str) -> KeyRecord:
        """Looks the key up, and raises our own errors.

        A Ray error that carries one of them is an instance of its class, but lacks its message.
        """
        try:
            return await self._lookup(key_hash)
        except Exception as error:
            raise as_tiger_error(error) from None
