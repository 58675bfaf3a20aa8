"""Who is calling: `Authorization: Bearer <key>` -> user.

A known key is asked for again after two seconds, so a revocation is seen within that; while storage is
away the last answer stands. Unknown keys are never remembered: a key works the moment it is made.
"""

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable

from registry.errors import InvalidApiKey, TigerError, Unavailable
from registry.keys import hash_key
from serve_app.errors import as_tiger_error

FRESH_S = 2.0
STALE_S = 600.0
MAX_KEYS = 10_000
MAX_KEY_LENGTH = 256


class Authenticator:
    """`lookup` gives the user of a key's hash, or raises InvalidApiKey."""

    def __init__(
        self, lookup: Callable[[str], Awaitable[str]], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._lookup = lookup
        self._clock = clock
        self._known: OrderedDict[str, tuple[str, float]] = OrderedDict()

    async def user(self, authorization: str | None) -> str:
        """The user of an `Authorization` header. Raises: InvalidApiKey, Unavailable."""
        scheme, _, key = (authorization or "").partition(" ")
        key = key.strip()
        if scheme.lower() != "bearer" or not key or len(key) > MAX_KEY_LENGTH:
            raise InvalidApiKey("give your API key as `Authorization: Bearer <key>`")
        key_hash = hash_key(key)
        user, asked_at = self._known.get(key_hash, ("", -STALE_S))
        age_s = self._clock() - asked_at
        if user and age_s < FRESH_S:
            return user
        try:
            return self._remember(key_hash, await self._ask(key_hash))
        except Unavailable:
            if user and age_s < STALE_S:
                return user
            raise
        except InvalidApiKey:
            self._known.pop(key_hash, None)
            raise

    async def _ask(self, key_hash: str) -> str:
        try:
            return await self._lookup(key_hash)
        except TigerError:
            raise
        except Exception as error:
            raise as_tiger_error(error) from None

    def _remember(self, key_hash: str, user: str) -> str:
        self._known[key_hash] = (user, self._clock())
        self._known.move_to_end(key_hash)
        if len(self._known) > MAX_KEYS:
            self._known.popitem(last=False)
        return user
