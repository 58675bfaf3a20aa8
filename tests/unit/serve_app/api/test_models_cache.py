"""The lease of an ingress replica goes on after the request that began it has ended in any way."""

import asyncio
from contextvars import ContextVar

import pytest

from registry.records import UserModels
from serve_app.api.models_cache import ModelsCache
from serve_app.catalog.cache_leases import Forgotten, ReadModels, Renewal

request: ContextVar[str] = ContextVar("request", default="none")


class Catalog:
    """A fake Catalog that gives leases at once, or fails if a test tells it to."""

    def __init__(self) -> None:
        self.contexts: list[str] = []
        self.num_reads = 0
        self.failure: BaseException | None = None
        self.renewed = asyncio.Event()

    async def renew(self, replica: str, forgotten: Forgotten) -> Renewal:
        self.contexts.append(request.get())
        if self.failure is not None:
            failure, self.failure = self.failure, None
            raise failure
        if self.renewed.is_set():
            await asyncio.Event().wait()
        self.renewed.set()
        return Renewal(Forgotten("session", 0), ())

    async def read(self, user: str, replica: str) -> ReadModels:
        self.num_reads += 1
        return ReadModels(UserModels().model_dump_json().encode(), "session")


@pytest.fixture
async def catalog() -> Catalog:
    return Catalog()


async def test_models_are_kept_once_there_is_a_lease(catalog: Catalog) -> None:
    cache = ModelsCache(catalog.read, catalog.renew)
    await cache.models("alice")
    await catalog.renewed.wait()
    for _ in range(3):
        await cache.models("alice")
    assert catalog.num_reads == 2


async def test_renewal_is_a_part_of_no_request(catalog: Catalog) -> None:
    request.set("the first")
    cache = ModelsCache(catalog.read, catalog.renew)
    await cache.models("alice")
    await catalog.renewed.wait()
    assert set(catalog.contexts) == {"none"}


async def test_renewal_that_was_cancelled_is_begun_again_by_the_next_read(catalog: Catalog) -> None:
    catalog.failure = asyncio.CancelledError()
    cache = ModelsCache(catalog.read, catalog.renew)
    await cache.models("alice")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not catalog.renewed.is_set()
    await cache.models("alice")
    await asyncio.wait_for(catalog.renewed.wait(), 5)
    await cache.models("alice")
    reads = catalog.num_reads
    await cache.models("alice")
    assert catalog.num_reads == reads
