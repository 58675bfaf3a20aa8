"""Workers are lost, come late or report twice: see `tests.support.training_world`."""

import asyncio
import json

import pytest

from registry.errors import JobNotFound, Unavailable
from registry.records import (
    JobStatus,
)
from tests.support.training_world import (
    BASE,
    DyingStore,
    World,
    ask,
    assert_ended_once,
    assigned,
    ended,
    progress,
    submit,
)
from tests.support.waiting import comes_true
from training.types import Assignment, Standing


async def test_lost_worker_gets_its_job_again(world: World) -> None:
    controller = world.controller()
    job_id = await submit(controller)
    await submit(controller, "uid-2", "bob")
    first, second = await assigned(controller), await assigned(controller)
    assert [first.job_id, second.job_id] == [job_id, job_id]
    assert [first.attempt, second.attempt] == [1, 2]
    assert second.revision == first.revision


async def test_job_fails_after_its_last_attempt(world: World) -> None:
    controller = world.controller(max_attempts=2, idle_timeout_s=0.1)
    job_id = await submit(controller)
    await assigned(controller)
    await assigned(controller)
    assert await ask(controller) == "leave"
    events = await ended(world, controller, job_id)
    assert_ended_once(events, "error")
    assert events[-1]["error"]["code"] == "training_failed"
    assert (await controller.job("alice", job_id)).status == JobStatus.FAILED


async def test_a_long_job_outlives_many_workers_while_it_gets_further(world: World) -> None:
    controller = world.controller(max_attempts=2, idle_timeout_s=0.1)
    job_id = await submit(controller)
    for step in (1, 2, 3):
        await controller.progress(job_id, (await assigned(controller)).attempt, progress(step))
    for step in (2, 3):
        await controller.progress(job_id, (await assigned(controller)).attempt, progress(step))
    assert await ask(controller) == "leave"
    assert_ended_once(await ended(world, controller, job_id), "error")


async def test_reports_of_a_given_up_attempt_are_refused(world: World) -> None:
    controller = world.controller()
    job_id = await submit(controller)
    stale = await assigned(controller)
    await assigned(controller)
    for report in (
        controller.progress(job_id, stale.attempt, progress(1)),
        controller.inform(job_id, stale.attempt, "late"),
        controller.complete(job_id, stale.attempt),
        controller.fail(job_id, stale.attempt, "training_failed", "late"),
    ):
        with pytest.raises(JobNotFound):
            await report
    assert (await controller.job("alice", job_id)).step == 0


async def test_reports_of_an_attempt_before_a_crash_are_refused(world: World) -> None:
    job_id = await submit(world.controller())
    stale = await assigned(await world.restarted())
    after = await world.restarted()
    with pytest.raises(JobNotFound):
        await after.fail(job_id, stale.attempt, "training_failed", "late")


async def test_worker_that_entered_with_an_earlier_controller_is_to_leave(world: World) -> None:
    before = world.controller()
    orphan = await before.enter(BASE)
    await submit(before)
    assert isinstance(await before.next_assignment(BASE, orphan), Assignment)
    after = await world.restarted()
    assignment = await assigned(after)
    assert await after.next_assignment(BASE, orphan) == "leave"
    standing = await after.inform(assignment.job_id, assignment.attempt, "not disturbed")
    assert standing is Standing.GOES_ON


async def test_complete_without_a_manifest_is_refused(world: World) -> None:
    controller = world.controller()
    job_id = await submit(controller)
    assignment = await assigned(controller)
    with pytest.raises(JobNotFound):
        await controller.complete(job_id, assignment.attempt)
    assert world.serving.swaps == []


async def test_complete_twice_publishes_once(world: World) -> None:
    controller = world.controller()
    job_id = await submit(controller)
    assignment = await assigned(controller)
    world.write_manifest(assignment)
    answers = await asyncio.gather(
        *(controller.complete(job_id, assignment.attempt) for _ in range(3)), return_exceptions=True
    )
    assert all(answer is None or isinstance(answer, JobNotFound) for answer in answers)
    assert_ended_once(await ended(world, controller, job_id), "stop")
    assert world.serving.swaps == [("uid-1", 1)]
    assert world.serving.preloads == ["uid-1@1"]


async def test_late_work_of_a_given_up_job_is_discarded(world: World) -> None:
    controller = world.controller(max_attempts=1, idle_timeout_s=0.1)
    given_up = await submit(controller)
    late = await assigned(controller)
    assert await ask(controller) == "leave"
    await ended(world, controller, given_up)
    world.write_manifest(late)
    job_id = await submit(controller)
    assignment = await assigned(controller)
    assert assignment.revision == late.revision
    await world.train(controller, assignment)
    assert_ended_once(await ended(world, controller, job_id), "stop")
    assert world.jobs_of_revisions("uid-1") == [job_id]


async def test_storage_away_during_publish_delays_it_only(world: World) -> None:
    controller = world.controller()
    job_id = await submit(controller)
    world.serving.num_failures = 2
    await world.train(controller, await assigned(controller))
    assert_ended_once(await ended(world, controller, job_id), "stop")
    assert world.serving.swaps == [("uid-1", 1)]


async def test_worker_lost_during_publish_does_not_train_again(world: World) -> None:
    controller = world.controller(idle_timeout_s=0.1)
    job_id = await submit(controller)
    world.serving.num_failures = 1
    completing = asyncio.ensure_future(world.train(controller, await assigned(controller)))
    await comes_true(lambda: world.serving.num_failures == 0)
    completing.cancel()
    assert await ask(controller) == "leave"
    assert_ended_once(await ended(world, controller, job_id), "stop")
    assert world.serving.swaps == [("uid-1", 1)]


@pytest.mark.parametrize("num_writes", range(5))
async def test_training_that_was_said_to_have_failed_never_runs_again(world: World, num_writes: int) -> None:
    dying = DyingStore(world.store, 100)
    controller = world.controller(dying)
    job_id = await submit(controller)
    assignment = await assigned(controller)
    dying.left = num_writes
    failing = asyncio.ensure_future(controller.fail(job_id, assignment.attempt, "training_failed", "no luck"))
    await comes_true(lambda: dying.is_dead)
    told = [json.loads(line) async for line in controller.events("alice", job_id, follow=False)]
    failing.cancel()
    after = await world.restarted(idle_timeout_s=0.1)
    answer = await ask(after)
    if told[-1]["type"] == "error":
        assert answer == "leave"
        assert_ended_once(await ended(world, after, job_id), "error")
    else:
        assert num_writes < 2


async def test_storage_away_at_the_assignment_keeps_the_job(world: World) -> None:
    dying = DyingStore(world.store, 3)
    controller = world.controller(dying)
    job_id = await submit(controller)
    for _ in range(2):
        with pytest.raises(Unavailable):
            await ask(controller)
    assert (await assigned(await world.restarted())).job_id == job_id
