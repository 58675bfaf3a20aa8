import asyncio
from collections.abc import Callable

import pytest

from registry.records import JobRecord, utc_now
from training.controller.dispatcher import Dispatcher
from training.controller.metrics import NoMetrics
from training.settings import TrainingSettings


class Runs:
    """Runs that start nothing. The test ends a run by calling the function that it was given."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.on_end: dict[str, Callable[[], None]] = {}
        self._more = asyncio.Event()

    def __call__(self, base_model: str, on_end: Callable[[], None]) -> None:
        self.started.append(base_model)
        self.on_end[base_model] = on_end
        self._more.set()

    async def wait_for(self, number: int) -> None:
        while len(self.started) < number:
            self._more.clear()
            await asyncio.wait_for(self._more.wait(), 10)


@pytest.fixture
async def runs() -> Runs:
    return Runs()


@pytest.fixture
async def dispatcher(runs: Runs) -> Dispatcher:
    settings = {base: TrainingSettings(idle_timeout_s=0.2) for base in ("one", "two")}
    return Dispatcher(settings, runs, NoMetrics())


def job(job_id: str, base_model: str = "one") -> JobRecord:
    """A job by its name: `a1` is a job of user `a`."""
    return JobRecord(
        id=job_id, user=job_id[0], uid="u", model="m", base_model=base_model, created=utc_now(), steps=1
    )


async def take(dispatcher: Dispatcher, base_model: str) -> str:
    """The order that a worker gets which has just begun."""
    return await taken_by(dispatcher, base_model, await dispatcher.enter(base_model))


async def taken_by(dispatcher: Dispatcher, base_model: str, worker: str) -> str:
    """The id of the job that a worker gets, or the instruction."""
    taken = await dispatcher.take(base_model, worker)
    return taken.id if isinstance(taken, JobRecord) else taken


async def test_run_is_started_once_for_all_jobs_of_a_base_model(dispatcher: Dispatcher, runs: Runs) -> None:
    for record in (job("a1"), job("a2"), job("b1", "two")):
        await dispatcher.put(record)
    assert runs.started == ["one", "two"]


async def test_base_models_do_not_wait_for_each_other(dispatcher: Dispatcher) -> None:
    await dispatcher.put(job("a1"))
    await dispatcher.put(job("b1", "two"))
    assert [await take(dispatcher, "two"), await take(dispatcher, "one")] == ["b1", "a1"]


async def test_waiting_run_gets_a_job_as_it_comes(dispatcher: Dispatcher) -> None:
    waiting = asyncio.ensure_future(take(dispatcher, "one"))
    await asyncio.sleep(0)
    assert not waiting.done()
    await dispatcher.put(job("a1"))
    assert await waiting == "a1"


async def test_run_that_asks_again_gets_its_lost_job_first(dispatcher: Dispatcher) -> None:
    for record in (job("a1"), job("a2"), job("b1")):
        await dispatcher.put(record)
    assert [await take(dispatcher, "one"), await take(dispatcher, "one")] == ["a1", "a1"]


async def test_worker_that_another_replaced_is_to_leave(dispatcher: Dispatcher) -> None:
    """It may wait for work, or have been taken for dead and answer again. In both cases it gets no job."""
    old = await dispatcher.enter("one")
    waiting = asyncio.ensure_future(taken_by(dispatcher, "one", old))
    await asyncio.sleep(0)
    new = await dispatcher.enter("one")
    assert await asyncio.wait_for(waiting, 5) == "leave"
    await dispatcher.put(job("a1"))
    assert await taken_by(dispatcher, "one", new) == "a1"
    assert await taken_by(dispatcher, "one", old) == "leave"
    assert dispatcher.has_taken(job("a1")), "taken from the one that works on it"


async def test_worker_of_a_run_that_ended_is_to_leave(dispatcher: Dispatcher, runs: Runs) -> None:
    await dispatcher.put(job("a1"))
    orphan = await dispatcher.enter("one")
    assert await taken_by(dispatcher, "one", orphan) == "a1"
    runs.on_end["one"]()
    assert await taken_by(dispatcher, "one", orphan) == "leave"
    assert await take(dispatcher, "one") == "a1"


async def test_released_job_is_never_taken_again(dispatcher: Dispatcher, runs: Runs) -> None:
    await dispatcher.put(job("a1"))
    await dispatcher.put(job("a2"))
    await take(dispatcher, "one")
    dispatcher.release(job("a1"))
    assert not dispatcher.has_taken(job("a1"))
    runs.on_end["one"]()
    assert await take(dispatcher, "one") == "a2"


async def test_job_released_while_it_waits_is_not_taken(dispatcher: Dispatcher) -> None:
    await dispatcher.put(job("a1"))
    dispatcher.release(job("a1"))
    assert await take(dispatcher, "one") == "leave"


async def test_idle_run_is_told_to_leave(dispatcher: Dispatcher) -> None:
    assert await asyncio.wait_for(take(dispatcher, "one"), 5) == "leave"


async def test_next_job_starts_the_run_that_left(dispatcher: Dispatcher, runs: Runs) -> None:
    await dispatcher.put(job("a1"))
    dispatcher.release(job("a1"))
    assert await take(dispatcher, "one") == "leave"
    runs.on_end["one"]()
    await dispatcher.put(job("a2"))
    assert runs.started == ["one", "one"]
    assert await take(dispatcher, "one") == "a2"


async def test_job_that_comes_while_the_run_leaves_starts_another(dispatcher: Dispatcher, runs: Runs) -> None:
    await dispatcher.put(job("a1"))
    dispatcher.release(job("a1"))
    assert await take(dispatcher, "one") == "leave"
    await dispatcher.put(job("a2"))
    assert runs.started == ["one"], "two runs at once"
    runs.on_end["one"]()
    await runs.wait_for(2)


async def test_run_that_broke_is_started_again_for_its_job(dispatcher: Dispatcher, runs: Runs) -> None:
    await dispatcher.put(job("a1"))
    assert await take(dispatcher, "one") == "a1"
    runs.on_end["one"]()
    assert not dispatcher.has_taken(job("a1"))
    await runs.wait_for(2)
    assert await take(dispatcher, "one") == "a1"


async def test_run_that_ends_without_work_stays_away(dispatcher: Dispatcher, runs: Runs) -> None:
    await dispatcher.put(job("a1"))
    await take(dispatcher, "one")
    dispatcher.release(job("a1"))
    await dispatcher.put(job("b1", "two"))
    await take(dispatcher, "two")
    runs.on_end["one"]()
    runs.on_end["two"]()
    await runs.wait_for(3)  # the later of two restarts, had there been two
    assert runs.started == ["one", "two", "two"]


async def test_time_without_a_run_is_not_idle_time(dispatcher: Dispatcher, runs: Runs) -> None:
    assert await take(dispatcher, "one") == "leave"
    await dispatcher.put(job("a1"))
    assert await take(dispatcher, "one") == "a1"
    dispatcher.release(job("a1"))
    waiting = asyncio.ensure_future(take(dispatcher, "one"))
    await asyncio.sleep(0.05)
    assert not waiting.done(), "told to leave although it had just finished a job"
    assert await waiting == "leave"


async def test_run_that_is_outdated_ends_after_its_job_and_another_one_begins(
    dispatcher: Dispatcher, runs: Runs
) -> None:
    await dispatcher.put(job("a1"))
    worker = await dispatcher.enter("one")
    assert await taken_by(dispatcher, "one", worker) == "a1"
    await dispatcher.end_run("one")
    await dispatcher.put(job("a2"))
    assert dispatcher.has_taken(job("a1")), "its job goes on"
    dispatcher.release(job("a1"))
    assert await taken_by(dispatcher, "one", worker) == "leave"
    runs.on_end["one"]()
    await runs.wait_for(2)
    assert await take(dispatcher, "one") == "a2"


async def test_idle_run_that_is_outdated_ends_at_once(dispatcher: Dispatcher, runs: Runs) -> None:
    await dispatcher.put(job("a1"))
    dispatcher.release(job("a1"))
    waiting = asyncio.ensure_future(take(dispatcher, "one"))
    await asyncio.sleep(0)
    await dispatcher.end_run("one")
    assert await waiting == "leave"
    runs.on_end["one"]()
    assert runs.started == ["one"], "there is no work for another run"


async def test_run_of_another_base_model_is_not_concerned(dispatcher: Dispatcher) -> None:
    for record in (job("a1"), job("b1", "two")):
        await dispatcher.put(record)
    await dispatcher.end_run("one")
    assert await take(dispatcher, "two") == "b1"
