"""An ingress replica caches users' models, so that listing and generating need no call to the Catalog.

A lease protects the cache (catalog.cache_leases): a change of a user's models waits until this replica has
forgotten them. A replica without a lease asks the Catalog each time and keeps nothing.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import cached_property

from cachetools import LRUCache

from registry.records import ModelRecord, UserModels, generate_uid
from registry.tasks import start_apart
from serve_app.api.model_listing import as_lines
from serve_app.catalog.cache_leases import TERM_S, Forgotten, ReadModels, Renewal
from serve_app.wire.models import ModelInfo

MAX_BYTES = 2**26
ENTRY_BYTES = 2_000
BYTES_PER_JSON_BYTE = 6
"""Estimates the bytes of memory that cached models and their lines in a listing take per byte of JSON."""
PAUSE_S = 0.5

logger = logging.getLogger("ray.serve")


@dataclass(frozen=True)
class CachedModels:
    models: tuple[ModelRecord, ...]
    size_bytes: int

    @cached_property
    def lines(self) -> bytes:
        """The JSON lines of these models in a listing."""
        return as_lines(ModelInfo.of_private(model) for model in self.models)


class ModelsCache:
    """The users' models that a replica remembers, up to `max_bytes`.

    `read` (of a user, for a replica) and `renew` call the Catalog. `clock` returns seconds since an arbitrary
    start.
    """

    def __init__(
        self,
        read: Callable[[str, str], Awaitable[ReadModels]],
        renew: Callable[[str, Forgotten], Awaitable[Renewal]],
        clock: Callable[[], float] = time.monotonic,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self._read = read
        self._renew = renew
        self._clock = clock
        self._replica = generate_uid()
        self._kept: LRUCache[str, CachedModels] = LRUCache(max_bytes, getsizeof=lambda kept: kept.size_bytes)
        self._forgotten = Forgotten()
        self._num_forgotten = 0
        self._until_s = clock()
        self._renewing: asyncio.Task[None] | None = None

    async def models(self, user: str) -> CachedModels:
        """Returns the user's private models. Raises the errors of `read`."""
        if self._renewing is None or self._renewing.done():
            self._renewing = start_apart(self._renew_forever())
        kept = self._kept.get(user) if self._has_lease() else None
        if kept is not None:
            return kept
        num_forgotten = self._num_forgotten
        answer = await self._read(user, self._replica)
        size_bytes = ENTRY_BYTES + BYTES_PER_JSON_BYTE * len(answer.json)
        found = CachedModels(UserModels.model_validate_json(answer.json).models, size_bytes)
        # If the models had to be forgotten while they were read, they may be older than a change.
        is_allowed = answer.session == self._forgotten.session and num_forgotten == self._num_forgotten
        if is_allowed and self._has_lease() and size_bytes <= self._kept.maxsize:
            self._kept[user] = found
        return found

    def _has_lease(self) -> bool:
        return self._clock() < self._until_s

    async def _renew_forever(self) -> None:
        told: str | None = None
        while True:
            asked_s = self._clock()
            try:
                renewal = await self._renew(self._replica, self._forgotten)
            except Exception as error:
                if type(error).__name__ != told:  # a superseded Catalog refuses for hours
                    told = type(error).__name__
                    logger.warning("models are not kept in memory for the moment: %s", told)
                await asyncio.sleep(PAUSE_S)
            else:
                told = None
                self._take(renewal, asked_s)

    def _take(self, renewal: Renewal, asked_s: float) -> None:
        is_another = renewal.withdrawn.session != self._forgotten.session
        if is_another or not self._has_lease():
            self._kept.clear()
            self._num_forgotten += 1
        for user in renewal.users:
            self._kept.pop(user, None)
            self._num_forgotten += 1
        self._forgotten = renewal.withdrawn
        self._until_s = asked_s + TERM_S
