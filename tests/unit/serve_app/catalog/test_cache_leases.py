"""The data that ingress replicas keep never go back in time, even if messages are lost or processes die."""

import asyncio
import random
from contextlib import suppress
from typing import Any

import pytest

from serve_app.api.models_cache import ModelsCache
from serve_app.catalog.cache_leases import POLL_S, TERM_S, Forgotten, Leases, Renewal
from tests.support.leasing_catalog import USERS, Catalog, CatalogDied
from tests.support.virtual_time import run_in_virtual_time


async def perfect_network() -> None:
    await asyncio.sleep(0.001)


def replica_of(catalog: Catalog, behind_s: float = 0.0, **options: Any) -> ModelsCache:
    """The cache of an ingress replica. Its clock may differ from the Catalog's."""
    now = asyncio.get_running_loop().time
    return ModelsCache(catalog.read, catalog.renew, lambda: now() - behind_s, **options)


async def seen(cache: ModelsCache, user: str = "alice") -> int:
    return (await cache.models(user)).models[0].latest_revision


async def settled(catalog: Catalog, *caches: ModelsCache) -> None:
    """Wait until all caches have a lease and keep Alice's models, and the Catalog's first term is over."""
    for cache in caches:
        await seen(cache)
    await asyncio.sleep(TERM_S + POLL_S)
    for cache in caches:
        await seen(cache)


def now_s() -> float:
    return asyncio.get_running_loop().time()


# One thing at a time


def test_what_is_kept_is_read_without_a_call_until_it_changes() -> None:
    async def main() -> None:
        catalog = Catalog(perfect_network)
        caches = [replica_of(catalog), replica_of(catalog, behind_s=1000.0)]
        await settled(catalog, *caches)
        calls = catalog.num_reads
        assert [await seen(cache) for cache in caches * 3] == [0] * 6
        assert catalog.num_reads == calls
        began_s = now_s()
        assert await catalog.change("alice") == 1
        assert now_s() - began_s < 0.01, "a change waits for two messages, not for a poll"
        assert [await seen(cache) for cache in caches * 3] == [1] * 6
        assert catalog.num_reads == calls + 2

    run_in_virtual_time(main())


def test_change_of_one_user_leaves_what_others_have() -> None:
    async def main() -> None:
        catalog = Catalog(perfect_network)
        cache = replica_of(catalog)
        await settled(catalog, cache)
        await seen(cache, "bob")
        calls = catalog.num_reads
        await catalog.change("alice")
        assert await seen(cache, "bob") == 0
        assert catalog.num_reads == calls

    run_in_virtual_time(main())


def test_lines_are_made_once_for_what_is_kept() -> None:
    async def main() -> None:
        catalog = Catalog(perfect_network)
        cache = replica_of(catalog)
        await settled(catalog, cache)
        first, second = await cache.models("alice"), await cache.models("alice")
        assert first.lines is second.lines
        assert b'"id":"mine"' in first.lines

    run_in_virtual_time(main())


def test_replica_that_died_delays_a_change_by_its_lease_and_no_longer() -> None:
    async def main() -> None:
        catalog = Catalog(perfect_network)
        await catalog.leases.renew("dead", Forgotten())
        assert catalog.leases.allow("dead", "alice")
        died_s = now_s()
        await catalog.leases.renew("dead", Forgotten())  # of which it never hears
        await catalog.change("alice")
        assert now_s() == pytest.approx(died_s + TERM_S, abs=0.01)
        began_s = now_s()
        await catalog.change("alice")
        assert now_s() == began_s

    run_in_virtual_time(main())


def test_new_catalog_changes_nothing_while_a_lease_of_the_last_one_may_run() -> None:
    async def main() -> None:
        catalog = Catalog(perfect_network)
        cache = replica_of(catalog)
        await settled(catalog, cache)
        catalog.start()
        change = asyncio.create_task(catalog.change("alice"))
        while not change.done():
            assert await seen(cache) == 0
            await asyncio.sleep(0.1)
        assert await seen(cache) == 1

    run_in_virtual_time(main())


def test_without_a_lease_nothing_is_kept() -> None:
    async def main() -> None:
        catalog = Catalog(perfect_network)

        async def renew(replica: str, forgotten: Forgotten) -> Renewal:
            raise ConnectionError

        cache = ModelsCache(catalog.read, renew, asyncio.get_running_loop().time)
        for _ in range(5):
            await seen(cache)
            await asyncio.sleep(TERM_S)
        assert catalog.num_reads == 5

    run_in_virtual_time(main())


def test_models_that_are_too_many_to_keep_are_still_given() -> None:
    async def main() -> None:
        catalog = Catalog(perfect_network)
        cache = replica_of(catalog, max_bytes=100)
        await settled(catalog, cache)
        assert [await seen(cache) for _ in range(3)] == [0] * 3
        assert catalog.num_reads == 5

    run_in_virtual_time(main())


def test_what_another_catalog_let_keep_is_not_kept() -> None:
    """When one Catalog takes over from another, either may answer for a moment."""

    async def main() -> None:
        old, new = Catalog(perfect_network), Catalog(perfect_network)
        now = asyncio.get_running_loop().time
        renewing = old
        cache = ModelsCache(old.read, lambda replica, forgotten: renewing.renew(replica, forgotten), now)
        await settled(old, cache)
        renewing = new
        await asyncio.sleep(2 * POLL_S)
        await seen(cache)
        await new.change("alice")
        old.written = new.written
        assert await seen(cache) == 1

    run_in_virtual_time(main())


def test_number_of_another_catalog_forgets_nothing() -> None:
    async def main() -> None:
        leases = Leases(TERM_S, asyncio.get_running_loop().time)
        of_another = Forgotten("another", 1000)
        while now_s() < TERM_S:  # before which nothing is changed
            await leases.renew("replica", of_another)
        assert leases.allow("replica", "alice")
        change = asyncio.create_task(leases.withdrawn("alice").__aenter__())
        await asyncio.sleep(0.1)
        first, second = [await leases.renew("replica", of_another) for _ in range(2)]
        assert first.users == second.users == ("alice",)
        assert not change.done()
        await leases.renew("replica", first.withdrawn)
        assert change.done()

    run_in_virtual_time(main())


# Everything at once


@pytest.mark.parametrize("seed", range(20))
def test_no_read_goes_back(seed: int) -> None:
    """Each read gives the last change before it or a later one, and never less than an earlier read.

    Meanwhile messages are late or lost, and Catalogs die in the middle of changes.
    """
    reads, calls = run_in_virtual_time(storm(random.Random(seed)))
    assert reads > 2000
    assert calls < 0.7 * reads, "most is to come from memory"


async def storm(chance: random.Random) -> tuple[int, int]:
    """The number of reads, and the number of calls that they took."""
    duration_s = 120.0

    async def network() -> None:
        if chance.random() < 0.01:
            raise ConnectionError
        is_late = chance.random() < 0.02
        await asyncio.sleep(chance.uniform(0.5, 2 * TERM_S) if is_late else chance.expovariate(1 / 0.003))

    catalog = Catalog(network)
    at_least = dict.fromkeys(USERS, 0)
    num_reads = 0

    async def read_forever(cache: ModelsCache) -> None:
        nonlocal num_reads
        while now_s() < duration_s:
            user = chance.choice(USERS)
            expected = at_least[user]
            with suppress(ConnectionError, CatalogDied):
                found = await seen(cache, user)
                assert found >= expected
                at_least[user] = max(at_least[user], found)
                num_reads += 1
            await asyncio.sleep(chance.expovariate(1 / 0.05))

    async def change_forever(user: str) -> None:
        while now_s() < duration_s:
            await asyncio.sleep(chance.expovariate(1 / 2.0))
            change = asyncio.create_task(catalog.change(user, chance.expovariate(1 / 0.01)))
            leases = catalog.leases
            while not change.done():
                await asyncio.wait([change], timeout=0.05)
                if leases is not catalog.leases:  # it died with its process
                    change.cancel()
                    await asyncio.wait([change])
            if not change.cancelled():
                at_least[user] = max(at_least[user], change.result())

    async def die_forever() -> None:
        while now_s() < duration_s:
            await asyncio.sleep(chance.expovariate(1 / 20.0))
            catalog.start()

    caches = [replica_of(catalog, chance.uniform(-1e6, 1e6)) for _ in range(3)]
    async with asyncio.TaskGroup() as tasks:
        for work in (
            *(read_forever(cache) for cache in caches for _ in range(2)),
            *(change_forever(user) for user in USERS),
            die_forever(),
        ):
            tasks.create_task(work)
    return num_reads, catalog.num_reads
