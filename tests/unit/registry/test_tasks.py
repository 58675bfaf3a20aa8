"""Work in the background: it goes on without a reference and outside the context of its request."""

import asyncio
import gc
from contextvars import ContextVar

from registry.tasks import BackgroundTasks

REQUEST: ContextVar[str] = ContextVar("REQUEST")


async def test_task_without_a_reference_comes_to_its_end() -> None:
    background = BackgroundTasks()
    may_end, has_ended = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        await may_end.wait()
        has_ended.set()

    background.start(work())
    await asyncio.sleep(0)
    gc.collect()
    may_end.set()
    await asyncio.wait_for(has_ended.wait(), 10)


async def test_task_has_a_context_of_its_own() -> None:
    async def seen() -> str:
        return REQUEST.get("none")

    REQUEST.set("a request")
    assert await BackgroundTasks().start(seen()) == "none"
