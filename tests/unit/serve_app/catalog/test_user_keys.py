"""The keys that the Catalog manages, on a real object store of which some writes fail or wait."""

import asyncio
import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from registry.errors import InvalidApiKey, KeyNotFound, QuotaExceeded, RateLimited, Unavailable
from registry.keys import ApiKeys, hash_key
from registry.records import KeyRecord
from registry.store import ObjectStore
from serve_app.catalog.user_keys import MAX_BEING_MADE, UserKeys
from tests.support.waiting import comes_true

NOON = datetime(2030, 1, 31, 12, tzinfo=UTC)
MAX_KEYS = 3
MAKER = hash_key("maker")
"""The hash of the key that makes and revokes the others. It is another user's, so that it does not count."""


class Watched(ApiKeys):
    """Keys that count the writes of uses when they are over. A test can let a write fail or wait."""

    def __init__(self, store: ObjectStore) -> None:
        super().__init__(store)
        self.num_tried = 0
        self.is_failing = False
        self.may_write = threading.Event()
        self.may_write.set()
        self.on_added: Callable[[], object] = lambda: None

    def add(self, key_hash: str, user: str, name: str, expires: datetime | None = None) -> KeyRecord:
        record = super().add(key_hash, user, name, expires)
        self.on_added()
        return record

    def mark_used(self, key_hash: str, record: KeyRecord, hour: datetime) -> None:
        self.may_write.wait(30)
        try:
            if self.is_failing:
                raise Unavailable("storage cannot be reached")
            super().mark_used(key_hash, record, hour)
        finally:
            self.num_tried += 1


class Now:
    def __init__(self) -> None:
        self.time = NOON

    def __call__(self) -> datetime:
        return self.time


@pytest.fixture
def keys(store: ObjectStore) -> Watched:
    keys = Watched(store)
    keys.add(MAKER, "maker", "maker")
    return keys


@pytest.fixture
def now() -> Now:
    return Now()


@pytest.fixture
def user_keys(keys: Watched, now: Now) -> UserKeys:
    return UserKeys(keys, MAX_KEYS, now)


async def test_key_is_its_users_until_it_is_revoked(user_keys: UserKeys) -> None:
    record = await user_keys.create("alice", "laptop", None, hash_key("a"), MAKER)
    assert await user_keys.authenticate(hash_key("a")) == record
    await user_keys.revoke("alice", record.id, MAKER)
    with pytest.raises(InvalidApiKey):
        await user_keys.authenticate(hash_key("a"))


async def test_key_is_required_by_its_user_while_it_exists(user_keys: UserKeys) -> None:
    record = await user_keys.create("alice", "laptop", None, hash_key("a"), MAKER)
    await user_keys.require("alice", record.id, MAKER)
    with pytest.raises(KeyNotFound):
        await user_keys.require("bob", record.id, MAKER)
    await user_keys.revoke("alice", record.id, MAKER)
    with pytest.raises(KeyNotFound):
        await user_keys.require("alice", record.id, MAKER)


async def test_expired_key_is_refused_and_still_listed(user_keys: UserKeys, now: Now) -> None:
    await user_keys.create("alice", "laptop", NOON + timedelta(seconds=1), hash_key("a"), MAKER)
    await user_keys.authenticate(hash_key("a"))
    now.time += timedelta(seconds=1)
    with pytest.raises(InvalidApiKey, match="expired"):
        await user_keys.authenticate(hash_key("a"))
    assert [key.record.name for key in await user_keys.list("alice")] == ["laptop"]


async def test_keys_of_one_user_are_limited_also_at_once(user_keys: UserKeys) -> None:
    hashes = [hash_key(str(number)) for number in range(MAX_BEING_MADE)]
    creations = (user_keys.create("alice", "key", None, key_hash, MAKER) for key_hash in hashes)
    made = await asyncio.gather(*creations, return_exceptions=True)
    assert [type(result) for result in made].count(QuotaExceeded) == MAX_BEING_MADE - MAX_KEYS
    await user_keys.create("bob", "key", None, hash_key("bob"), MAKER)
    mine = await user_keys.list("alice")
    assert len(mine) == MAX_KEYS
    await user_keys.revoke("alice", mine[0].record.id, MAKER)
    await user_keys.create("alice", "key", None, hash_key("next"), MAKER)


async def test_creation_whose_caller_goes_away_counts(user_keys: UserKeys) -> None:
    for number in range(MAX_BEING_MADE - 1):
        creation = asyncio.create_task(user_keys.create("alice", "key", None, hash_key(str(number)), MAKER))
        await asyncio.sleep(0)
        creation.cancel()
    with pytest.raises(QuotaExceeded):
        await user_keys.create("alice", "key", None, hash_key("last"), MAKER)
    assert len(await user_keys.list("alice")) == MAX_KEYS


async def test_revoked_key_makes_and_revokes_none(user_keys: UserKeys, keys: Watched) -> None:
    record = await user_keys.create("alice", "key", None, hash_key("a"), MAKER)
    keys.revoke(MAKER)
    with pytest.raises(InvalidApiKey):
        await user_keys.create("alice", "key", None, hash_key("b"), MAKER)
    for act in (user_keys.revoke, user_keys.require):
        with pytest.raises(InvalidApiKey):
            await act("alice", record.id, MAKER)
    assert [key.record for key in keys.list_of("alice")] == [record]


async def test_key_whose_maker_is_revoked_while_it_is_made_goes_with_it(
    user_keys: UserKeys, keys: Watched, store: ObjectStore
) -> None:
    """The operator's command revokes keys in the bucket, without the Catalog."""
    keys.on_added = lambda: ApiKeys(store).revoke(MAKER)
    with pytest.raises(InvalidApiKey):
        await user_keys.create("alice", "key", None, hash_key("a"), MAKER)
    assert keys.lookup(hash_key("a")) is None and keys.list_of("alice") == []


async def test_keys_made_beside_the_revocation_of_their_maker_are_those_that_were_told(
    user_keys: UserKeys, keys: Watched
) -> None:
    own = await user_keys.create("alice", "own", None, hash_key("own"), MAKER)
    results = await asyncio.gather(
        user_keys.create("alice", "new", None, hash_key("new"), hash_key("own")),
        user_keys.revoke("alice", own.id, hash_key("own")),
        user_keys.create("alice", "late", None, hash_key("late"), hash_key("own")),
        return_exceptions=True,
    )
    assert results[1] is None
    told = [result for result in (results[0], results[2]) if not isinstance(result, InvalidApiKey)]
    assert [key.record for key in keys.list_of("alice")] == told


async def test_use_is_written_once_an_hour(user_keys: UserKeys, keys: Watched, now: Now) -> None:
    await user_keys.create("alice", "key", None, hash_key("a"), MAKER)
    for hours in range(3):
        for minutes in (0, 1, 59):
            now.time = NOON + timedelta(hours=hours, minutes=minutes)
            await user_keys.authenticate(hash_key("a"))
    await comes_true(lambda: keys.num_tried == 3)
    assert keys.list_of("alice")[0].last_used == NOON + timedelta(hours=2)


async def test_use_that_cannot_be_written_holds_up_no_request(user_keys: UserKeys, keys: Watched) -> None:
    await user_keys.create("alice", "key", None, hash_key("a"), MAKER)
    keys.may_write.clear()
    for _ in range(20):
        await user_keys.authenticate(hash_key("a"))
    assert keys.list_of("alice")[0].last_used is None
    keys.may_write.set()
    await comes_true(lambda: keys.num_tried == 1)
    assert keys.list_of("alice")[0].last_used == NOON


async def test_use_that_failed_to_be_written_is_written_with_a_later_one(
    user_keys: UserKeys, keys: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    record = await user_keys.create("alice", "key", None, hash_key("a"), MAKER)
    keys.is_failing = True
    with caplog.at_level(logging.WARNING, "ray.serve"):
        await user_keys.authenticate(hash_key("a"))
        await comes_true(lambda: record.id in caplog.text)
    assert hash_key("a")[:8] not in caplog.text
    keys.is_failing = False
    await user_keys.authenticate(hash_key("a"))
    await comes_true(lambda: keys.num_tried == 2)
    assert keys.list_of("alice")[0].last_used == NOON


async def test_use_that_waits_during_a_revocation_revives_nothing(
    user_keys: UserKeys, keys: Watched, store: ObjectStore
) -> None:
    record = await user_keys.create("alice", "key", None, hash_key("a"), MAKER)
    keys.may_write.clear()
    await user_keys.authenticate(hash_key("a"))
    await user_keys.revoke("alice", record.id, MAKER)
    keys.may_write.set()
    await comes_true(lambda: keys.num_tried == 1)
    assert not [name for name in store.list("") if MAKER not in name]
    with pytest.raises(InvalidApiKey):
        await user_keys.authenticate(hash_key("a"))


async def test_key_from_before_there_were_markers_is_listed_after_a_start(
    keys: Watched, store: ObjectStore
) -> None:
    store.put(
        f"keys/{hash_key('old')}.json",
        b'{"user": "alice", "name": "old", "created": "2025-01-01T00:00:00.000Z"}',
    )
    UserKeys(keys, MAX_KEYS)
    await comes_true(lambda: [key.record.name for key in keys.list_of("alice")] == ["old"])


async def test_keys_that_are_being_made_hold_up_no_revocation(user_keys: UserKeys, keys: Watched) -> None:
    """Whoever has a leaked key can ask for many more. Its owner must still be able to revoke it."""
    leaked = await user_keys.create("alice", "leaked", None, hash_key("leaked"), MAKER)
    may_go_on = threading.Event()
    keys.on_added = lambda: may_go_on.wait(30)

    def make(number: int) -> asyncio.Task[KeyRecord]:
        making = user_keys.create("alice", "more", None, hash_key(f"more {number}"), hash_key("leaked"))
        return asyncio.ensure_future(making)

    try:
        waiting = [make(number) for number in range(MAX_BEING_MADE)]
        await asyncio.sleep(0)
        waiting[-1].cancel()  # its client has gone, and it still counts
        with pytest.raises(RateLimited):
            await asyncio.wait_for(make(MAX_BEING_MADE), 10)
        await asyncio.wait_for(user_keys.revoke("alice", leaked.id, MAKER), 10)
    finally:
        may_go_on.set()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(result, InvalidApiKey | asyncio.CancelledError) for result in results)
    assert await user_keys.list("alice") == []
