"""A base model that is asleep: who waits for its start, and what ends such a wait."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from registry.errors import Unavailable
from serve_app.api.base_model_health import WAITING_S, BaseModelHealth, Health
from serve_app.api.cold_start import ColdStart
from tests.support.waiting import comes_true
from tests.unit.serve_app.api.test_base_model_health import Replicas, is_refused


@pytest.fixture
def replicas() -> Replicas:
    return Replicas()


class Start:
    """The start of a base model, which a test lets succeed or fail."""

    def __init__(self) -> None:
        self.num = 0
        self.is_taken_back = False
        self.end: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def wait(self) -> None:
        self.num += 1
        try:
            await asyncio.shield(self.end)
        except asyncio.CancelledError:
            self.is_taken_back = True
            raise

    def cancel(self) -> None:
        raise AssertionError("a ColdStart takes it back")


async def test_sleeping_one_is_available_and_a_request_waits_for_its_start(replicas: Replicas) -> None:
    start = Start()
    health = BaseModelHealth("one", replicas.ask, replicas.clock, start)
    replicas.answer = Health.ASLEEP
    await health.ask_now()
    assert health.is_available and health.is_asleep
    assert start.num == 0, "a question starts nothing"
    waiting = asyncio.create_task(health.require())
    await comes_true(lambda: start.num == 1)
    assert not waiting.done()
    start.end.set_result(None)
    await waiting
    assert health.is_available and not health.is_asleep


async def test_failed_start_is_the_error_of_the_request(replicas: Replicas) -> None:
    start = Start()
    start.end.set_exception(Unavailable("base model one did not start"))
    health = BaseModelHealth("one", replicas.ask, replicas.clock, start)
    replicas.answer = Health.ASLEEP
    assert await is_refused(health)
    assert health.is_asleep, "the next request tries again"


@pytest.fixture
async def starting(replicas: Replicas) -> AsyncIterator[tuple[BaseModelHealth, asyncio.Task[None]]]:
    """The health of a base model that was asleep, and a wait for its start, which does not end."""
    start = Start()
    health = BaseModelHealth("one", replicas.ask, replicas.clock, ColdStart("one", start.wait, lambda: 60))
    replicas.answer = Health.ASLEEP
    await health.ask_now()
    waiting = asyncio.create_task(health.require())
    await comes_true(lambda: start.num == 1)
    yield health, waiting
    health.close(Unavailable("the test is over"))


async def test_call_that_waits_in_serve_is_taken_back_when_the_base_model_is_removed(
    replicas: Replicas,
) -> None:
    """A base model of the same name may return at once, and would get a replica that nobody asked for."""
    start = Start()
    health = BaseModelHealth("one", replicas.ask, replicas.clock, ColdStart("one", start.wait, lambda: 60))
    replicas.answer = Health.ASLEEP
    await health.ask_now()
    waiting = [asyncio.create_task(health.require()) for _ in range(2)]
    await comes_true(lambda: start.num == 1)
    health.close(Unavailable("base model one is not deployed"))
    ends = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 5)
    assert [type(end) for end in ends] == [Unavailable, Unavailable]
    await comes_true(lambda: start.is_taken_back)
    assert start.num == 1, "it is not begun again"


async def test_wait_for_a_start_ends_when_no_replica_can_start(
    starting: tuple[BaseModelHealth, asyncio.Task[None]], replicas: Replicas
) -> None:
    """A stream that waits has begun to answer, and a training waits without a request that could be ended."""
    health, waiting = starting
    replicas.answer = Health.FAULTY
    await health.ask_now()
    assert not waiting.done(), "Serve may be applying changed settings"
    replicas.now += WAITING_S
    await health.ask_now()
    with pytest.raises(Unavailable, match="one cannot answer at the moment"):
        await asyncio.wait_for(waiting, 5)


async def test_wait_for_a_start_ends_when_the_base_model_is_removed(
    starting: tuple[BaseModelHealth, asyncio.Task[None]],
) -> None:
    health, waiting = starting
    health.close(Unavailable("base model one is not deployed"))
    with pytest.raises(Unavailable, match="one is not deployed"):
        await asyncio.wait_for(waiting, 5)


async def test_client_that_goes_away_ends_only_its_own_wait_for_a_start(
    starting: tuple[BaseModelHealth, asyncio.Task[None]],
) -> None:
    health, waiting = starting
    other = asyncio.create_task(health.require())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert not other.done()
    health.close(Unavailable("base model one is not deployed"))
    with pytest.raises(Unavailable):
        await asyncio.wait_for(other, 5)


async def test_sleeping_one_that_cannot_start_is_unavailable(replicas: Replicas) -> None:
    health = BaseModelHealth("one", replicas.ask, replicas.clock)
    replicas.answer = Health.ASLEEP
    await health.ask_now()
    replicas.answer = Health.FAULTY
    await health.ask_now()
    assert not health.is_available and not health.is_asleep
