"""The meter on a real object store, and on a store that a test can make unavailable."""

import asyncio
import threading
from collections.abc import Mapping
from datetime import date, timedelta

import pytest

from registry.errors import Unavailable
from registry.meter import Meter
from registry.store import ObjectStore
from registry.usage import Usage, UsageParts

USERS = ("alice", "bob", "carol", "dave")
DAY = date(2026, 2, 28)
NEXT = DAY + timedelta(days=1)
ONE = Usage(requests=1, input_tokens=3, output_tokens=4, generation_seconds=0.5)


class Parts(UsageParts):
    def __init__(self, store: ObjectStore) -> None:
        super().__init__(store)
        self.is_away = False
        self.is_answer_lost = False
        self.saved: list[tuple[str, date, str]] = []
        self.has_saved = threading.Event()

    def save(self, user: str, day: date, part: str, models: Mapping[str, Usage]) -> None:
        if self.is_away:
            raise Unavailable("storage cannot be reached")
        super().save(user, day, part, models)
        self.saved.append((user, day, part))
        self.has_saved.set()
        if self.is_answer_lost:
            raise Unavailable("storage cannot be reached")

    def of(self, user: str, day: date = DAY) -> Usage:
        return sum((usage for usage in self.sums(user, day, day).values()), Usage())


@pytest.fixture
def parts(store: ObjectStore) -> Parts:
    return Parts(store)


class Clock:
    day = DAY


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def meter(parts: Parts, clock: Clock) -> Meter:
    return Meter(parts, today=lambda: clock.day)


async def test_totals_are_written_and_only_what_changed(meter: Meter, parts: Parts) -> None:
    for user in ("alice", "bob", "alice"):
        meter.count(user, "one", ONE)
    await meter.flush()
    assert (parts.of("alice"), parts.of("bob")) == (ONE + ONE, ONE)
    meter.count("alice", "two", ONE)
    await meter.flush()
    await meter.flush()
    assert parts.of("alice") == ONE + ONE + ONE
    assert [user for user, _, _ in parts.saved] == ["alice", "bob", "alice"]


async def test_what_storage_does_not_take_is_tried_again(meter: Meter, parts: Parts) -> None:
    parts.is_away = True
    for user in ("alice", "bob"):
        meter.count(user, "one", ONE)
    await meter.flush()
    meter.count("alice", "one", ONE)
    parts.is_away = False
    await meter.flush()
    assert (parts.of("alice"), parts.of("bob")) == (ONE + ONE, ONE)


async def test_write_whose_answer_was_lost_counts_once(meter: Meter, parts: Parts) -> None:
    meter.count("alice", "one", ONE)
    parts.is_answer_lost = True
    await meter.flush()
    parts.is_answer_lost = False
    await meter.flush()
    assert parts.of("alice") == ONE


async def test_crash_loses_what_was_not_flushed_and_nothing_else(meter: Meter, parts: Parts) -> None:
    meter.count("alice", "one", ONE)
    await meter.flush()
    meter.count("alice", "one", ONE)
    successor = Meter(parts, today=lambda: DAY)
    successor.count("alice", "one", ONE)
    await successor.flush()
    assert parts.of("alice") == ONE + ONE


async def test_day_that_is_over_is_written_once_more_and_forgotten(
    meter: Meter, parts: Parts, clock: Clock
) -> None:
    meter.count("alice", "one", ONE)
    clock.day = NEXT
    for _ in range(2):
        meter.count("alice", "one", ONE)
        await meter.flush()
    assert [day for _, day, _ in parts.saved] == [DAY, NEXT, NEXT]
    assert (parts.of("alice"), parts.of("alice", NEXT)) == (ONE, ONE + ONE)
    clock.day = DAY
    meter.count("alice", "one", ONE)
    await meter.flush()
    parts_of_day = [part for _, day, part in parts.saved if day == DAY]
    assert len(set(parts_of_day)) == 2, "a tally that is forgotten begins another part"
    assert parts.of("alice") == ONE + ONE


async def test_memory_has_a_bound_and_a_forgotten_user_loses_nothing(
    parts: Parts,
) -> None:
    meter = Meter(parts, today=lambda: DAY, max_clean_tallies=2)
    for user in USERS:
        meter.count(user, "one", ONE)
    await meter.flush()
    for user in ("carol", "dave", "alice", "bob"):
        meter.count(user, "one", ONE)
    await meter.flush()
    num_parts = {user: len({part for saved, _, part in parts.saved if saved == user}) for user in USERS}
    assert num_parts == {"alice": 2, "bob": 2, "carol": 1, "dave": 1}
    assert [parts.of(user) for user in USERS] == [ONE + ONE] * 4


async def test_started_meter_flushes_by_itself_and_at_its_end(parts: Parts) -> None:
    meter = Meter(parts, flush_interval_s=0.02, today=lambda: DAY)
    meter.start()
    meter.count("alice", "one", ONE)
    assert await asyncio.to_thread(parts.has_saved.wait, 20)
    meter.count("alice", "one", ONE)
    await meter.close()
    assert parts.of("alice") == ONE + ONE


async def test_what_is_counted_during_a_flush_is_not_lost(meter: Meter, parts: Parts) -> None:
    meter.count("alice", "one", ONE)
    flushing = asyncio.ensure_future(meter.flush())
    for _ in range(20):
        await asyncio.sleep(0.001)
        meter.count("alice", "one", ONE)
    await flushing
    await meter.flush()
    assert parts.of("alice").requests == 21
