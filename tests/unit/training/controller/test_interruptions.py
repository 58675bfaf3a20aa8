"""Users pause their jobs and let them go on. The test acts as the worker. `test_cancel.py` has the rest."""

import asyncio
import json

import pytest

from registry.errors import JobNotFound, Unavailable
from registry.records import JobRecord, JobStatus
from tests.support.training_world import (
    BASE,
    DyingStore,
    World,
    assigned,
    ended,
    progress,
    submit,
)
from tests.support.waiting import comes_true
from training.controller.controller import TrainingController
from training.types import Assignment, Dismissal, Instruction, Order, Resumption, Standing


class Worker:
    """The one worker of a controller, which asks with the same name again."""

    def __init__(self, controller: TrainingController) -> None:
        self.controller = controller
        self._name = ""

    async def ask(self) -> Order:
        self._name = self._name or await self.controller.enter(BASE)
        return await asyncio.wait_for(self.controller.next_assignment(BASE, self._name), 30)

    async def assigned(self) -> Assignment:
        order = await self.ask()
        assert isinstance(order, Assignment), order
        return order

    async def give_way(self, assignment: Assignment) -> None:
        report = self.controller.progress(assignment.job_id, assignment.attempt, progress(1))
        assert await report is Standing.GIVES_WAY
        await self.controller.paused(assignment.job_id, assignment.attempt)


async def shown(controller: TrainingController, job_id: str) -> JobStatus:
    return (await controller.job("alice", job_id)).shown_status


async def messages(controller: TrainingController, job_id: str) -> list[str]:
    lines = [json.loads(line) async for line in controller.events("alice", job_id, follow=False)]
    return [line["message"] for line in lines if line["type"] == "info"]


async def test_running_job_gives_way_and_goes_on_where_it_was(world: World) -> None:
    controller = await world.restarted(idle_timeout_s=0.1)
    worker = Worker(controller)
    job = await submit(controller)
    assignment = await worker.assigned()
    assert (await controller.pause("alice", job)).shown_status is JobStatus.PAUSED
    await worker.give_way(assignment)
    assert await worker.ask() is Instruction.LEAVE, "nobody else has work"
    assert await shown(controller, job) is JobStatus.PAUSED
    assert (await controller.resume("alice", job)).shown_status is JobStatus.RUNNING
    assert await worker.ask() == Resumption(job_id=job, attempt=1)
    await world.train(controller, assignment)
    told = [event.get("message") for event in await ended(world, controller, job)]
    assert told[1:] == [
        "Paused by its user, until they resume it",
        None,
        "Resumed by its user; it waits for its turn",
        "Going on",
        "Publishing revision 1",
        None,
    ]
    record = await controller.job("alice", job)
    assert (record.status, record.attempt, record.is_held) == (JobStatus.SUCCEEDED, 1, False)


async def test_queued_job_is_not_taken_until_it_is_resumed(world: World) -> None:
    controller = await world.restarted()
    job, other = await submit(controller), await submit(controller, "uid-2")
    await controller.pause("alice", job)
    assert await shown(controller, job) is JobStatus.PAUSED
    assert [record.id for record in await _listed(controller, JobStatus.PAUSED)] == [job]
    worker = Worker(controller)
    assignment = await worker.assigned()
    assert assignment.job_id == other, "the job of another model does not wait"
    await world.train(controller, assignment)
    assert (await controller.resume("alice", job)).shown_status is JobStatus.QUEUED
    assert (await worker.assigned()).job_id == job


async def _listed(controller: TrainingController, status: JobStatus) -> list[JobRecord]:
    return await controller.list_jobs("alice", None, status, None, 10)


async def test_worker_that_waits_gets_a_job_as_soon_as_it_is_resumed(world: World) -> None:
    controller = await world.restarted()
    job = await submit(controller)
    await controller.pause("alice", job)
    asking = asyncio.ensure_future(Worker(controller).assigned())
    await asyncio.sleep(0.05)
    assert not asking.done()
    await controller.resume("alice", job)
    assert (await asyncio.wait_for(asking, 4)).job_id == job, "it does not wait until it asks again"


async def test_later_jobs_of_the_model_wait_for_a_held_one(world: World) -> None:
    controller = await world.restarted()
    worker = Worker(controller)
    first, second = await submit(controller), await submit(controller)
    await controller.pause("alice", first)
    third = await submit(controller)
    other = await submit(controller, "uid-2", "bob")
    assignment = await worker.assigned()
    assert assignment.job_id == other
    await world.train(controller, assignment)
    await controller.pause("alice", second)
    await controller.resume("alice", first)
    assignment = await worker.assigned()
    assert assignment.job_id == first
    await world.train(controller, assignment)
    await controller.resume("alice", second)
    for expected in (second, third):
        assignment = await worker.assigned()
        assert assignment.job_id == expected
        await world.train(controller, assignment)
    assert world.jobs_of_revisions("uid-1") == [third, second, first]


async def test_later_jobs_wait_while_a_held_one_still_runs(world: World) -> None:
    controller = await world.restarted(idle_timeout_s=0.1)
    worker = Worker(controller)
    first, second = await submit(controller), await submit(controller)
    assignment = await worker.assigned()
    await controller.pause("alice", second)
    await controller.pause("alice", first)
    await controller.resume("alice", second)
    await worker.give_way(assignment)
    assert await worker.ask() is Instruction.LEAVE
    await controller.resume("alice", first)
    assert await worker.ask() == Resumption(job_id=first, attempt=1)
    await world.train(controller, assignment)
    assert (await worker.assigned()).job_id == second


async def test_held_job_is_cancelled_and_the_next_one_goes_on(world: World) -> None:
    controller = await world.restarted()
    worker = Worker(controller)
    first, second = await submit(controller), await submit(controller)
    assignment = await worker.assigned()
    await controller.pause("alice", first)
    await worker.give_way(assignment)
    record = await controller.cancel("alice", first)
    assert (record.shown_status, record.is_held) == (JobStatus.CANCELLED, False)
    assert await worker.ask() == Dismissal(job_id=first)
    following = await worker.assigned()
    assert (following.job_id, following.revision) == (second, assignment.revision)


async def test_held_job_that_waits_is_cancelled_at_once(world: World) -> None:
    controller = await world.restarted()
    first, second = await submit(controller), await submit(controller)
    await controller.pause("alice", first)
    assert (await controller.cancel("alice", first)).status is JobStatus.CANCELLED
    assert (await assigned(controller)).job_id == second


async def test_held_jobs_survive_the_controller_and_the_worker(world: World) -> None:
    before = await world.restarted()
    worker = Worker(before)
    running = await submit(before)
    assignment = await worker.assigned()
    await before.pause("alice", running)
    await worker.give_way(assignment)
    queued, later = await submit(before, "uid-2"), await submit(before, "uid-2")
    await before.pause("alice", queued)
    after = await world.restarted()
    waiting = await submit(after, "uid-3", "bob")
    assert (await assigned(after)).job_id == waiting
    assert {await shown(after, job) for job in (running, queued)} == {JobStatus.PAUSED}
    assert "Paused by its user, until they resume it" in await messages(after, queued)
    await after.resume("alice", queued)
    await after.resume("alice", running)
    await world.train(after, await assigned(after))
    seen = []
    for _ in range(3):
        assignment = await assigned(after)
        seen.append((assignment.job_id, assignment.attempt))
        await world.train(after, assignment)
    assert seen == [(queued, 1), (later, 1), (running, 2)]


async def test_job_whose_worker_dies_before_it_gave_way_stays_held(world: World) -> None:
    controller = await world.restarted(idle_timeout_s=0.1)
    job = await submit(controller)
    assignment = await assigned(controller)
    await controller.pause("alice", job)
    replacement = Worker(controller)
    assert await replacement.ask() is Instruction.LEAVE
    assert await shown(controller, job) is JobStatus.PAUSED
    with pytest.raises(JobNotFound):
        await controller.progress(job, assignment.attempt, progress(1))
    await controller.resume("alice", job)
    assert (await replacement.assigned()).attempt == 2


async def test_job_that_is_held_in_its_last_pack_succeeds(world: World) -> None:
    controller = await world.restarted()
    first, second = await submit(controller), await submit(controller)
    worker = Worker(controller)
    assignment = await worker.assigned()
    await controller.pause("alice", first)
    await world.train(controller, assignment)
    await ended(world, controller, first)
    assert await shown(controller, first) is JobStatus.SUCCEEDED
    assert (await worker.assigned()).job_id == second


async def test_pausing_twice_and_resuming_what_is_not_held_change_nothing(world: World) -> None:
    controller = await world.restarted()
    job = await submit(controller)
    assert (await controller.resume("alice", job)).shown_status is JobStatus.QUEUED
    for _ in range(2):
        assert (await controller.pause("alice", job)).shown_status is JobStatus.PAUSED
    assert (await messages(controller, job)).count("Paused by its user, until they resume it") == 1
    for _ in range(2):
        assert (await controller.resume("alice", job)).shown_status is JobStatus.QUEUED
    await world.train(controller, await assigned(controller))
    await ended(world, controller, job)
    for order in (controller.pause, controller.resume):
        assert (await order("alice", job)).shown_status is JobStatus.SUCCEEDED
        with pytest.raises(JobNotFound):
            await order("bob", job)


async def test_pause_that_could_not_be_saved_is_saved_by_the_next_try(world: World) -> None:
    dying = DyingStore(world.store, 100)
    controller = world.controller(dying)
    job = await submit(controller)
    dying.left = 0
    with pytest.raises(Unavailable):
        await controller.pause("alice", job)
    dying.left = 100
    await controller.pause("alice", job)
    assert await shown(await world.restarted(), job) is JobStatus.PAUSED


async def test_pausing_a_job_whose_end_is_not_saved_yet_holds_up_nobody(world: World) -> None:
    dying = DyingStore(world.store, 100)
    controller = world.controller(dying)
    job, following = await submit(controller), await submit(controller)
    assignment = await assigned(controller)
    dying.left = 0
    failing = asyncio.ensure_future(controller.fail(job, assignment.attempt, "training_failed", "no luck"))
    await comes_true(lambda: dying.is_dead)
    assert not (await controller.pause("alice", job)).is_held
    dying.left = 100
    await failing
    await ended(world, controller, job)
    assert await shown(controller, job) is JobStatus.FAILED
    assert (await assigned(controller)).job_id == following


async def test_held_jobs_count_as_unfinished(world: World) -> None:
    controller = await world.restarted()
    jobs = [await submit(controller) for _ in range(3)]
    for job in jobs:
        await controller.pause("alice", job)
    with pytest.raises(Exception, match="you have 3 unfinished trainings"):
        await submit(controller)
