"""A controller dies and another takes over: see `tests.support.training_world`."""

import asyncio
import json
import threading
from typing import Any

import pytest

from registry.errors import Unavailable
from registry.jobs import Jobs
from registry.records import JobStatus
from tests.support.memory_s3 import MemoryClient, memory_store, once_at
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
from training.controller.active_jobs import ActiveJobs
from training.controller.controller import TrainingController
from training.controller.dispatcher import Dispatcher
from training.controller.metrics import NoMetrics
from training.controller.recovery import Recovery
from training.settings import TrainingSettings
from training.types import Assignment


async def finish_all(world: World, controller: TrainingController, job_id: str) -> list[dict[str, Any]]:
    """Act as a worker that asks until the job has ended."""
    following = asyncio.ensure_future(ended(world, controller, job_id))
    while not following.done():
        asking = asyncio.ensure_future(ask(controller))
        await asyncio.wait({asking, following}, timeout=30, return_when=asyncio.FIRST_COMPLETED)
        if asking.done() and isinstance(order := asking.result(), Assignment):
            await world.train(controller, order)
        asking.cancel()
    return await following


@pytest.mark.parametrize("num_writes", range(12))
async def test_job_happens_once_wherever_the_controller_dies(world: World, num_writes: int) -> None:
    """The test counts the writes of a whole job. The controller then dies before each of them in turn."""
    dying = DyingStore(world.store, num_writes)
    controller = world.controller(dying)
    accepted: str | None = None
    try:
        accepted = await submit(controller)
        assignment = await assigned(controller)
        await controller.progress(accepted, assignment.attempt, progress(1))
        await world.train(controller, assignment)
        async for _ in controller.events("alice", accepted, follow=True):
            pass
        await comes_true(lambda: dying.is_dead or world.store.list("jobs-active/") == [])
    except Unavailable:
        pass
    after = await world.restarted(idle_timeout_s=0.1)
    if accepted is None:
        assert await after.list_jobs("alice", None, None, None, 10) == []
        assert await ask(after) == "leave"
        return
    assert_ended_once(await finish_all(world, after, accepted), "stop")
    assert world.serving.swaps == [("uid-1", 1)]
    assert world.jobs_of_revisions("uid-1") == [accepted]
    assert (await after.job("alice", accepted)).status == JobStatus.SUCCEEDED
    assert world.store.list("jobs-active/") == []


async def test_job_of_a_dead_controller_gets_a_new_attempt(world: World) -> None:
    job_id = await submit(world.controller())
    before = await world.restarted()
    first = await assigned(before)
    second = await assigned(await world.restarted())
    assert (second.job_id, second.attempt, second.revision) == (job_id, first.attempt + 1, first.revision)


async def test_revision_written_before_the_crash_is_published_without_training(world: World) -> None:
    before = world.controller()
    job_id = await submit(before)
    world.write_manifest(await assigned(before))
    after = await world.restarted(idle_timeout_s=0.1)
    assert await ask(after) == "leave"
    assert_ended_once(await ended(world, after, job_id), "stop")
    assert world.serving.swaps == [("uid-1", 1)]


async def test_list_swapped_before_the_crash_is_not_swapped_again(world: World) -> None:
    before = world.controller()
    job_id = await submit(before)
    world.write_manifest(await assigned(before))
    await world.serving.publish("alice", "uid-1", 1)
    after = await world.restarted(idle_timeout_s=0.1)
    assert await ask(after) == "leave"
    assert_ended_once(await ended(world, after, job_id), "stop")
    assert world.serving.swaps == [("uid-1", 1)]


async def test_order_survives_a_crash(world: World) -> None:
    before = world.controller()
    accepted = [await submit(before) for _ in range(3)]
    after = await world.restarted()
    seen = []
    for _ in accepted:
        assignment = await assigned(after)
        seen.append(assignment.job_id)
        await world.train(after, assignment)
    assert seen == accepted


async def test_recovery_starts_a_run(world: World) -> None:
    await submit(world.controller())
    world.runs.clear()
    await world.restarted()
    assert len(world.runs) == 1


async def test_events_of_a_finished_job_are_read_from_the_bucket(world: World) -> None:
    controller = world.controller()
    job_id = await submit(controller)
    await world.train(controller, await assigned(controller))
    live = await ended(world, controller, job_id)
    after = await world.restarted()
    lines = [line async for line in after.events("alice", job_id, follow=True)]
    assert [json.loads(line) for line in lines] == live
    assert all(line.endswith("\n") and line.count("\n") == 1 for line in lines)


async def test_attempts_before_a_crash_count(world: World) -> None:
    job_id = await submit(world.controller())
    for _ in range(2):
        await assigned(await world.restarted(max_attempts=2))
    after = await world.restarted(max_attempts=2, idle_timeout_s=0.1)
    assert await ask(after) == "leave"
    assert_ended_once(await ended(world, after, job_id), "error")


async def test_crash_after_the_manifest_loses_no_step(world: World) -> None:
    """Progress is saved at most once a second. Steps that are not made again cannot be reported again."""
    controller = world.controller()
    job_id = await submit(controller)
    assignment = await assigned(controller)
    for step in range(1, 6):
        await controller.progress(job_id, assignment.attempt, progress(step))
    await controller.inform(job_id, assignment.attempt, "Saving revision 1")
    world.write_manifest(assignment)
    after = await world.restarted(idle_timeout_s=0.1)
    assert await ask(after) == "leave"
    events = await ended(world, after, job_id)
    assert [event["step"] for event in events if event["type"] == "progress"] == [1, 2, 3, 4, 5]


async def test_crash_between_stop_and_end_shows_one_stop(world: World) -> None:
    controller = world.controller()
    job_id = await submit(controller)
    world.write_manifest(await assigned(controller))
    stop = json.dumps({"type": "stop", "stop_reason": "completed"})
    Jobs(world.store).save_events("alice", job_id, ['{"type": "info", "message": "Queued"}', stop])
    after = await world.restarted(idle_timeout_s=0.1)
    assert await ask(after) == "leave"
    assert_ended_once(await ended(world, after, job_id), "stop")


async def test_job_is_queued_once_if_the_next_look_begins_before_the_first_one_has_ended(
    world: World,
) -> None:
    job_id = await submit(world.controller())
    objects = {key: world.store.get(key).body for key in world.store.list("")}
    has_next_begun = threading.Event()
    waits = once_at("jobs-active/", lambda: has_next_begun.wait(20))
    active = ActiveJobs()
    dispatcher = Dispatcher({BASE: TrainingSettings()}, lambda base_model, on_end: None, NoMetrics())
    recovery = Recovery(Jobs(memory_store(MemoryClient(objects, before_read=waits))), active, dispatcher)
    looks = [asyncio.create_task(recovery.take_up()) for _ in range(2)]
    await asyncio.sleep(0)
    has_next_begun.set()
    await asyncio.gather(*looks)
    assert dispatcher.waiting(BASE) == [job_id]


async def test_job_that_is_submitted_again_while_it_is_found_is_queued_once(world: World) -> None:
    controller = world.controller()
    record = await controller.job("alice", await submit(controller))
    objects = {key: world.store.get(key).body for key in world.store.list("")}
    active = ActiveJobs()
    dispatcher = Dispatcher({BASE: TrainingSettings()}, lambda base_model, on_end: None, NoMetrics())
    submits = once_at(f"jobs/alice/{record.id}/job.json", lambda: active.expect(record))
    jobs = Jobs(memory_store(MemoryClient(objects, before_read=submits)))
    await Recovery(jobs, active, dispatcher).take_up()
    assert dispatcher.waiting(BASE) == []
    active.forget(record)
    await Recovery(jobs, active, dispatcher).take_up()
    assert dispatcher.waiting(BASE) == [record.id]
