"""EngineWatch on an engine whose state the test sets, with a clock of the test."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from registry.errors import Unavailable
from serve_app.model_server.engine_watch import (
    ASK_INTERVAL_S,
    HANGS_AFTER_S,
    LAST_ANSWERS_S,
    LAST_WORDS_S,
    EngineWatch,
)
from tests.support.virtual_time import run_in_virtual_time


class FakeEngine:
    """An engine that answers as late as a test tells it to."""

    def __init__(self) -> None:
        self.errored = False
        self.answers_after_s = 0.0
        self.num_asked = 0

    async def is_sleeping(self) -> bool:
        self.num_asked += 1
        await asyncio.sleep(self.answers_after_s)
        return False


class World:
    """A watch, and a record of its actions with their times."""

    def __init__(self, last_words_s: float = 0.0) -> None:
        self.engine = FakeEngine()
        self.num_waiting = 0
        self.done: list[tuple[str, float]] = []
        self._last_words_s = last_words_s
        self.watch = EngineWatch(
            self.engine, lambda: self.num_waiting, self._last_words, lambda: self._note("end")
        )
        self.watch.start()

    def _note(self, what: str) -> None:
        self.done.append((what, asyncio.get_running_loop().time()))

    async def _last_words(self) -> None:
        await asyncio.sleep(self._last_words_s)
        self._note("words")


def in_virtual_time(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    def run() -> None:
        run_in_virtual_time(test())

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


@in_virtual_time
async def test_engine_that_works_is_left_alone() -> None:
    world = World()
    await asyncio.sleep(10 * HANGS_AFTER_S)
    world.watch.check()
    assert world.done == []
    assert world.engine.num_asked > HANGS_AFTER_S / ASK_INTERVAL_S


@in_virtual_time
async def test_busy_engine_is_not_taken_for_one_that_hangs() -> None:
    world = World()
    world.engine.answers_after_s = HANGS_AFTER_S * 0.9
    await asyncio.sleep(10 * HANGS_AFTER_S)
    world.watch.check()
    assert world.done == []


@in_virtual_time
async def test_replica_ends_within_a_second_of_its_engine() -> None:
    world = World()
    await asyncio.sleep(100)
    world.engine.errored = True
    with pytest.raises(Unavailable, match="died"):
        world.watch.check()
    await asyncio.sleep(1)
    assert [what for what, _ in world.done] == ["words", "end"]


@in_virtual_time
async def test_requests_get_their_error_first() -> None:
    world = World()
    world.num_waiting = 2
    world.engine.errored = True
    await asyncio.sleep(LAST_ANSWERS_S / 2)
    assert world.done == []
    world.num_waiting = 0
    await asyncio.sleep(1)
    assert world.done[-1][0] == "end"


@in_virtual_time
async def test_neither_a_request_nor_storage_keeps_a_dead_replica() -> None:
    world = World(last_words_s=1000)
    world.num_waiting = 1
    world.engine.errored = True
    await asyncio.sleep(LAST_ANSWERS_S + LAST_WORDS_S + 1)
    assert [what for what, _ in world.done] == ["end"]


@in_virtual_time
async def test_engine_that_hangs_is_noticed() -> None:
    world = World()
    world.engine.answers_after_s = 10**6
    await asyncio.sleep(HANGS_AFTER_S)
    world.watch.check()
    await asyncio.sleep(ASK_INTERVAL_S + 1)
    with pytest.raises(Unavailable, match="not answered"):
        world.watch.check()
    assert world.done[-1][0] == "end"


@in_virtual_time
async def test_replica_that_is_stopped_on_purpose_does_not_end_by_itself() -> None:
    world = World()
    world.watch.stop()
    world.engine.errored = True
    await asyncio.sleep(100)
    assert world.done == []
