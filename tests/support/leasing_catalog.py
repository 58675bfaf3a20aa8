"""A fake of the Catalog that has real leases, behind a network that a test chooses."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from registry.records import UserModels
from serve_app.catalog.cache_leases import TERM_S, Forgotten, Leases, ReadModels, Renewal
from tests.support.model_records import model_record

USERS = ("alice", "bob")
MODEL = model_record()
T = TypeVar("T")


class CatalogDied(Exception):
    pass


class Catalog:
    """A fake with the leases of the real one. The number of changes is the model's latest revision.

    `network` is called before and after each call, and may take time or raise.
    """

    def __init__(self, network: Callable[[], Awaitable[None]]) -> None:
        self.written = dict.fromkeys(USERS, 0)
        self.num_reads = 0
        self._network = network
        self.start()

    def start(self) -> None:
        """Begin as a new process. The process before it answers no more."""
        self.leases = Leases(TERM_S, asyncio.get_running_loop().time)

    async def read(self, user: str, replica: str) -> ReadModels:
        self.num_reads += 1

        async def read() -> ReadModels:
            number = self.written[user]
            models = UserModels(models=(MODEL.model_copy(update={"latest_revision": number}),))
            return ReadModels(models.model_dump_json().encode(), self.leases.allow(replica, user))

        return await self._call(read())

    async def renew(self, replica: str, forgotten: Forgotten) -> Renewal:
        return await self._call(self.leases.renew(replica, forgotten))

    async def change(self, user: str, writing_s: float = 0.0) -> int:
        async with self.leases.withdrawn(user):
            await asyncio.sleep(writing_s)
            self.written[user] += 1
            return self.written[user]

    async def _call(self, work: Coroutine[Any, Any, T]) -> T:
        leases = self.leases
        try:
            await self._network()
            found = await work
            await self._network()
        finally:
            work.close()
        if leases is not self.leases:
            raise CatalogDied
        return found
