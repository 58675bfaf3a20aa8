"""Work that several requests wait for goes on when any of them ends."""

import asyncio
from contextvars import ContextVar

import pytest

from registry.errors import Unavailable
from registry.tasks import start_apart
from serve_app.shared_tasks import ATTEMPTS, SharedTasks
from tests.support.waiting import comes_true

request: ContextVar[str] = ContextVar("request", default="none")


class Work:
    """Work that waits until it `may_end`, raises the next of `errors`, and counts how often it has begun."""

    def __init__(self) -> None:
        self.may_end = asyncio.Event()
        self.num_begun = 0
        self.errors: list[BaseException] = []

    async def run(self) -> str:
        self.num_begun += 1
        await self.may_end.wait()
        if self.errors:
            raise self.errors.pop()
        return request.get()


@pytest.fixture
async def work() -> Work:
    return Work()


@pytest.fixture
def tasks() -> SharedTasks[str]:
    return SharedTasks()


async def test_those_who_come_together_wait_for_the_same(work: Work, tasks: SharedTasks[str]) -> None:
    waiting = [asyncio.ensure_future(tasks.join("a", work.run)()) for _ in range(3)]
    work.may_end.set()
    assert await asyncio.gather(*waiting) == ["none"] * 3
    assert work.num_begun == 1
    await tasks.join("a", work.run)()
    assert work.num_begun == 2, "what has ended is begun anew"


async def test_who_goes_away_takes_nothing_with_it(work: Work, tasks: SharedTasks[str]) -> None:
    waiting = [asyncio.ensure_future(tasks.join("a", work.run)()) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    await asyncio.wait(waiting[:1])
    assert waiting[0].cancelled()
    work.may_end.set()
    assert await asyncio.gather(*waiting[1:]) == ["none"] * 2
    assert work.num_begun == 1


async def test_what_is_cancelled_is_begun_again(work: Work, tasks: SharedTasks[str]) -> None:
    waiting = [tasks.join("a", work.run)() for _ in range(3)]
    work.errors = [asyncio.CancelledError()]
    work.may_end.set()
    assert await asyncio.gather(*waiting) == ["none"] * 3
    assert work.num_begun == 2


async def test_work_that_nobody_waits_for_can_be_cancelled(work: Work, tasks: SharedTasks[str]) -> None:
    tasks.join("a", work.run)
    await asyncio.sleep(0)
    tasks.cancel("a")
    tasks.cancel("b")
    await comes_true(lambda: not tasks.is_running("a"))
    assert work.num_begun == 1


async def test_what_is_cancelled_again_and_again_is_unavailable(work: Work, tasks: SharedTasks[str]) -> None:
    work.errors = [asyncio.CancelledError() for _ in range(2 * ATTEMPTS)]
    work.may_end.set()
    with pytest.raises(Unavailable):
        await tasks.join("a", work.run)()
    assert work.num_begun == ATTEMPTS


async def test_errors_come_to_all_who_wait(work: Work, tasks: SharedTasks[str]) -> None:
    work.errors = [ValueError("no")]
    work.may_end.set()
    found = await asyncio.gather(*(tasks.join("a", work.run)() for _ in range(2)), return_exceptions=True)
    assert [type(error) for error in found] == [ValueError, ValueError]


async def test_each_key_has_its_own(work: Work, tasks: SharedTasks[str]) -> None:
    work.may_end.set()
    await asyncio.gather(tasks.join("a", work.run)(), tasks.join("b", work.run)())
    assert work.num_begun == 2


async def test_a_task_apart_is_in_no_requests_context(work: Work) -> None:
    request.set("mine")
    work.may_end.set()
    assert await start_apart(work.run()) == "none"
    assert await work.run() == "mine"
