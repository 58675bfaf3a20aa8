"""Jobs of several users take turns in one run. The test acts as the worker, and sets the clock."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from registry.errors import JobNotFound, ModelInUse
from registry.records import JobStatus
from registry.revisions import Revisions
from tests.support.queueing import Clock, CountingStore, controller_over, model_of, submit
from training.controller.controller import TrainingController
from training.types import Assignment, Dismissal, Order, Place, Resumption, Standing

SLICE_S = 30
PLACE = Place(step=1, steps=5, share=0.4)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store() -> CountingStore:
    return CountingStore()


@pytest.fixture
async def controller(store: CountingStore, clock: Clock) -> TrainingController:
    return controller_over(store, clock=clock, slice_s=SLICE_S)


class Worker:
    """A worker that goes through packs of a second each. The test says how many packs a job has."""

    def __init__(
        self, controller: TrainingController, clock: Clock, store: CountingStore, adapter: Path
    ) -> None:
        self.controller = controller
        self.clock = clock
        self.packs: dict[str, int] = {}
        self.turns: list[str] = []
        self.ended_at: dict[str, float] = {}
        self._revisions = Revisions(store)
        self._adapter = adapter
        self.name = ""
        self._kept: dict[str, Assignment] = {}

    async def ask(self) -> Order:
        if not self.name:
            self.name = await self.controller.enter("base")
        return await self.controller.next_assignment("base", self.name)

    async def assigned(self) -> Assignment:
        order = await self.ask()
        assert isinstance(order, Assignment), order
        return order

    async def look(self, assignment: Assignment) -> Standing:
        return await self.controller.look(assignment.job_id, assignment.attempt, PLACE)

    async def pause(self, assignment: Assignment) -> None:
        await self.controller.paused(assignment.job_id, assignment.attempt)

    async def complete(self, assignment: Assignment) -> None:
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            (self._adapter / name).write_text("{}")
        self._revisions.publish(
            assignment.uid,
            self._adapter,
            revision=assignment.revision,
            parent_revision=assignment.parent_revision,
            job=assignment.job_id,
            base_model="base",
            metrics={},
        )
        await self.controller.complete(assignment.job_id, assignment.attempt)

    async def take_turn(self) -> None:
        order = await self.ask()
        assert isinstance(order, Assignment | Resumption), order
        assignment = order if isinstance(order, Assignment) else self._kept.pop(order.job_id)
        assert assignment.attempt == order.attempt
        self.turns.append(assignment.job_id)
        while self.packs[assignment.job_id]:
            if await self.look(assignment) is Standing.GIVES_WAY:
                self._kept[assignment.job_id] = assignment
                await self.pause(assignment)
                return
            self.packs[assignment.job_id] -= 1
            self.clock.now_s += 1
        await self.complete(assignment)
        self.ended_at[assignment.job_id] = self.clock.now_s


@pytest.fixture
def worker(controller: TrainingController, clock: Clock, store: CountingStore, tmp_path: Path) -> Worker:
    return Worker(controller, clock, store, tmp_path)


async def messages(controller: TrainingController, user: str, job_id: str) -> list[str]:
    lines = [json.loads(line) async for line in controller.events(user, job_id, follow=False)]
    return [line["message"] for line in lines if line["type"] == "info"]


async def paused_job(worker: Worker, user: str, other: str) -> tuple[Assignment, str]:
    """The assignment of a job of `user` that gave way, and the id of the job of `other` that waits."""
    await submit(worker.controller, user)
    assignment = await worker.assigned()
    waiting = await submit(worker.controller, other)
    worker.clock.now_s += SLICE_S
    assert await worker.look(assignment) is Standing.GIVES_WAY
    await worker.pause(assignment)
    return assignment, waiting


async def test_a_short_job_waits_for_one_slice_of_a_long_one(worker: Worker, clock: Clock) -> None:
    long = await submit(worker.controller, "greedy")
    worker.packs[long] = 1000
    began_s = clock.now_s
    first = asyncio.ensure_future(submit(worker.controller, "light"))
    worker.packs[short := await first] = 5
    while len(worker.ended_at) < 2:
        await worker.take_turn()
    assert worker.turns == [long, short, long]
    assert worker.ended_at[short] - began_s == SLICE_S + 5
    assert worker.ended_at[long] - began_s == 1005
    record = await worker.controller.job("greedy", long)
    assert (record.status, record.attempt, record.is_paused) == (JobStatus.SUCCEEDED, 1, False)
    told = await messages(worker.controller, "greedy", long)
    assert told[1:3] == ["Paused: others are having their turn", "Going on"]


async def test_long_jobs_take_turns_and_a_short_one_waits_for_a_slice_of_each(
    worker: Worker, clock: Clock
) -> None:
    one, two = await submit(worker.controller, "one"), await submit(worker.controller, "two")
    worker.packs |= {one: 200, two: 100}
    for _ in range(3):
        await worker.take_turn()
    came_s = clock.now_s
    short = await submit(worker.controller, "light")
    worker.packs[short] = 1
    while len(worker.ended_at) < 3:
        await worker.take_turn()
    assert worker.turns[:6] == [one, two, one, two, one, short]
    assert worker.ended_at[short] - came_s <= 2 * SLICE_S + 1
    assert worker.turns.count(two) == 4
    assert clock.now_s - 1000 == 301, "nobody waited while there was work"


async def test_nobody_gives_way_to_their_own_jobs_or_before_the_slice_is_over(
    worker: Worker, clock: Clock
) -> None:
    await submit(worker.controller, "alice")
    second = await submit(worker.controller, "alice")
    assignment = await worker.assigned()
    clock.now_s += 10 * SLICE_S
    assert await worker.look(assignment) is Standing.GOES_ON
    await worker.controller.fail(assignment.job_id, assignment.attempt, "training_failed", "no luck")
    assignment = await worker.assigned()
    assert assignment.job_id == second
    await submit(worker.controller, "bob")
    clock.now_s += SLICE_S - 1
    assert await worker.look(assignment) is Standing.GOES_ON
    clock.now_s += 1
    assert await worker.look(assignment) is Standing.GIVES_WAY


async def test_jobs_of_a_paused_one_s_user_do_not_overtake_it(worker: Worker) -> None:
    assignment, other = await paused_job(worker, "alice", "bob")
    second = await submit(worker.controller, "alice")
    worker.packs |= {other: 1, second: 1}
    await worker.take_turn()
    assert await worker.ask() == Resumption(job_id=assignment.job_id, attempt=1)


async def test_paused_job_still_runs_for_those_who_ask(worker: Worker) -> None:
    assignment, _ = await paused_job(worker, "alice", "bob")
    record = await worker.controller.job("alice", assignment.job_id)
    assert (record.status, record.is_paused) == (JobStatus.RUNNING, True)
    with pytest.raises(ModelInUse):
        await worker.controller.delete_model("alice", model_of("alice"))


async def test_paused_job_is_cancelled_at_once_and_its_worker_forgets_it(worker: Worker) -> None:
    assignment, other = await paused_job(worker, "alice", "bob")
    record = await worker.controller.cancel("alice", assignment.job_id)
    assert record.status is JobStatus.CANCELLED
    assert not await worker.controller.is_training(assignment.uid)
    assert await worker.ask() == Dismissal(job_id=assignment.job_id)
    assert (await worker.assigned()).job_id == other


async def test_cancelling_while_a_job_pauses_ends_it_once(worker: Worker, clock: Clock) -> None:
    job_id = await submit(worker.controller, "alice")
    assignment = await worker.assigned()
    other = await submit(worker.controller, "bob")
    await asyncio.gather(worker.controller.cancel("alice", job_id), worker.pause(assignment))
    lines = [json.loads(line) async for line in worker.controller.events("alice", job_id, follow=True)]
    assert [line["type"] for line in lines if line["type"] in ("stop", "error")] == ["error"]
    orders: list[Any] = [await worker.ask(), await worker.ask()]
    assert orders[0] == Dismissal(job_id=job_id)
    assert orders[1].job_id == other


async def test_lost_worker_s_jobs_are_all_handed_out_again_and_the_paused_ones_are_not_to_blame(
    worker: Worker, store: CountingStore, clock: Clock, tmp_path: Path
) -> None:
    controller = controller_over(store, clock=clock, slice_s=SLICE_S, max_attempts=1)
    first = Worker(controller, clock, store, tmp_path)
    one, two = await paused_job(first, "one", "two")
    second = await first.assigned()
    assert second.job_id == two
    await submit(controller, "three")
    clock.now_s += SLICE_S
    await first.pause(second)
    assert await first.ask() == Resumption(job_id=one.job_id, attempt=1)
    await first.pause(one)
    running = await first.assigned()
    replacement = Worker(controller, clock, store, tmp_path)
    again = [await replacement.assigned()]
    await replacement.complete(again[-1])
    again.append(await replacement.assigned())
    assert [(a.job_id, a.attempt) for a in again] == [(two, 2), (one.job_id, 2)]
    assert (await controller.job("three", running.job_id)).status is JobStatus.FAILED, "it ran as it died"
    for stale in (one, second, running):
        with pytest.raises(JobNotFound):
            await first.look(stale)
        with pytest.raises(JobNotFound):
            await first.pause(stale)
    assert await first.ask() == "leave"


async def test_worker_that_does_not_have_what_it_is_to_go_on_with_gets_it_anew(worker: Worker) -> None:
    assignment, other = await paused_job(worker, "alice", "bob")
    worker.packs[other] = 1
    await worker.take_turn()
    assert isinstance(await worker.ask(), Resumption)
    again = await worker.assigned()
    assert (again.job_id, again.attempt) == (assignment.job_id, 2)


async def test_restarted_controller_hands_out_paused_jobs_as_new_attempts(
    worker: Worker, store: CountingStore, clock: Clock, tmp_path: Path
) -> None:
    assignment, other = await paused_job(worker, "alice", "bob")
    running = await worker.assigned()
    assert running.job_id == other
    after = controller_over(store, clock=clock, slice_s=SLICE_S)
    await after.recover()
    assert await after.next_assignment("base", worker.name) == "leave"
    replacement = Worker(after, clock, store, tmp_path)
    found = [await replacement.assigned()]
    await replacement.complete(found[0])
    found.append(await replacement.assigned())
    assert {(a.job_id, a.attempt) for a in found} == {(assignment.job_id, 2), (other, 2)}
    with pytest.raises(JobNotFound):
        await after.paused(assignment.job_id, 1)


async def test_how_far_a_step_is_is_told_to_those_who_look_and_kept_nowhere(worker: Worker) -> None:
    job_id = await submit(worker.controller, "alice")
    assignment = await worker.assigned()
    lines = worker.controller.events("alice", job_id, follow=True)
    assert json.loads(await anext(lines))["message"] == "Queued"
    await worker.look(assignment)
    assert json.loads(await anext(lines)) == {"type": "info", "message": "Step 1 of 5: 40%"}
    following = asyncio.ensure_future(anext(lines))
    await asyncio.sleep(0)
    assert not following.done(), "told once"
    await worker.controller.inform(job_id, assignment.attempt, "Saving")
    assert json.loads(await following)["message"] == "Saving"
    assert await messages(worker.controller, "alice", job_id) == ["Queued", "Saving"]
