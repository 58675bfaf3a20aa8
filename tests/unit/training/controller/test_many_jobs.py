"""A thousand waiting jobs: the work for one of them must not grow with the number of the others.

The tests count operations of the store, calls of Python functions, and bytes. They measure no time.
"""

import asyncio
import gc
import sys
import threading
import tracemalloc
from collections import Counter
from collections.abc import Awaitable, Callable
from types import FrameType
from typing import Any

import pytest

from tests.support.queueing import CountingStore, controller_over, fail_next, model_of, submit
from tests.support.waiting import comes_true
from training.controller.controller import TrainingController

NUM_USERS = 20
JOBS_PER_USER = 50
USERS = [f"user-{number}" for number in range(NUM_USERS)]


class SlowStore(CountingStore):
    """A store in which writes of bodies that contain `slow` wait until they may go on."""

    def __init__(self) -> None:
        super().__init__()
        self.is_waiting = threading.Event()
        self.may_go_on = threading.Event()

    def put(self, key: str, body: bytes) -> None:
        if b"slow" in body:
            self.is_waiting.set()
            assert self.may_go_on.wait(30)
        super().put(key, body)


async def queue_up(controller: TrainingController) -> dict[str, list[str]]:
    """Submit jobs of all users; returns the ids of the accepted jobs by user."""
    accepted: dict[str, list[str]] = {user: [] for user in USERS}
    for _ in range(JOBS_PER_USER):
        for user in USERS:
            accepted[user].append(await submit(controller, user))
    return accepted


async def operations(store: CountingStore, work: Awaitable[object]) -> dict[str, int]:
    before = store.operations.copy()
    await work
    return dict(store.operations - before)


async def num_calls(work: Awaitable[object]) -> int:
    """The number of calls of Python functions in this thread until `work` is done."""
    calls: Counter[str] = Counter()

    def count(frame: FrameType, event: str, argument: Any) -> None:
        calls[event] += 1

    sys.setprofile(count)
    try:
        await work
    finally:
        sys.setprofile(None)
    return calls["call"]


@pytest.fixture
def store() -> CountingStore:
    return CountingStore()


async def test_work_for_one_job_does_not_grow_with_the_others(store: CountingStore) -> None:
    controller = controller_over(store)
    steps: list[Callable[[], Awaitable[object]]] = [
        lambda: submit(controller, USERS[0]),
        lambda: controller.is_training(model_of(USERS[0]).uid),
        lambda: controller.list_jobs(USERS[0], None, None, None, 2),
        lambda: fail_next(controller),
    ]

    async def cost() -> list[tuple[dict[str, int], int]]:
        return [(await operations(store, step()), await num_calls(step())) for step in steps]

    for _ in range(4):
        await submit(controller, USERS[0])
    few = await cost()
    await queue_up(controller)
    many = await cost()
    assert [stored for stored, _ in few[:3]] == [stored for stored, _ in many[:3]]
    for (_, with_few), (_, with_many) in zip(few, many, strict=True):
        assert with_many < with_few + 300


async def test_thousand_jobs_are_recovered_with_one_read_each(store: CountingStore) -> None:
    before = controller_over(store)
    accepted = await queue_up(before)
    in_turn = [await fail_next(before) for _ in USERS]
    assert in_turn == [accepted[user][0] for user in USERS]
    num_left = (JOBS_PER_USER - 1) * NUM_USERS
    await comes_true(lambda: len(store.list("jobs-active/")) == num_left)

    after = controller_over(store)
    assert await operations(store, after.recover()) == {"list": 1, "get": num_left}
    in_turn = [await fail_next(after) for _ in range(2 * NUM_USERS)]
    assert in_turn == [accepted[user][number] for number in (1, 2) for user in USERS]


async def test_waiting_job_keeps_its_request_out_of_memory(store: CountingStore) -> None:
    class Forgetful(CountingStore):
        def put(self, key: str, body: bytes) -> None:
            super().put(key, body[:1])

    num_jobs, request_bytes = 90, 200_000
    controller = controller_over(Forgetful())
    await submit(controller)
    tracemalloc.start()
    try:
        for number in range(num_jobs):
            await submit(controller, content=chr(ord("a") + number % 26) * request_bytes)
        gc.collect()
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held / num_jobs < 10_000


async def test_client_that_goes_away_while_its_training_is_accepted_leaves_a_whole_job() -> None:
    store = SlowStore()
    controller = controller_over(store)
    accepting = asyncio.ensure_future(submit(controller, content="slow"))
    await asyncio.to_thread(store.is_waiting.wait, 30)
    accepting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await accepting
    assert await controller.is_training(model_of("alice").uid)
    store.may_go_on.set()
    job_id = await asyncio.wait_for(fail_next(controller), 30)
    assert [job.id for job in await controller.list_jobs("alice", None, None, None, 10)] == [job_id]


async def test_keyed_request_waits_for_its_own_repeats_only() -> None:
    store = SlowStore()
    controller = controller_over(store)
    slow = [asyncio.ensure_future(submit(controller, content="slow", key="one")) for _ in range(2)]
    await asyncio.to_thread(store.is_waiting.wait, 30)
    others = [await submit(controller, key="two"), await submit(controller, "bob", key="one")]
    assert not any(done.done() for done in slow)
    store.may_go_on.set()
    first, repeat = await asyncio.gather(*slow)
    assert first == repeat and len({first, *others}) == 3
