"""Two controllers on one bucket: the later one leads, and the former one stands down."""

import asyncio
import json

import pytest

from registry.errors import JobNotFound, Superseded
from registry.leadership import TRAINER, release
from registry.records import JobStatus
from tests.support.training_world import (
    World,
    ask,
    assert_ended_once,
    assigned,
    ended,
    private_model,
    progress,
    submit,
)
from tests.support.waiting import becomes_true, comes_true
from training.controller.controller import TrainingController

NEVER_S = 3600.0
AT_ONCE_S = 0.01


async def started(world: World, cluster: str, look_interval_s: float = NEVER_S) -> TrainingController:
    controller = world.controller(cluster=cluster, look_interval_s=look_interval_s, idle_timeout_s=0.1)
    await controller.recover()
    return controller


async def is_superseded(controller: TrainingController) -> bool:
    try:
        await controller.cancel("alice", "job-" + "0" * 24)
    except Superseded:
        return True
    except JobNotFound:
        return False
    raise AssertionError("there is no such job")


async def test_running_job_is_made_by_the_later_controller_once(world: World) -> None:
    """The worker of the former controller writes the revision, and reports it too late."""
    former = await started(world, "old")
    job_id = await submit(former)
    late = await assigned(former)
    await former.inform(job_id, late.attempt, "Loading revision 0")
    later = await started(world, "new")
    again = await assigned(later)
    assert (again.job_id, again.revision, again.attempt) == (job_id, late.revision, late.attempt + 1)
    world.write_manifest(late)
    with pytest.raises(JobNotFound):
        await former.inform(job_id, late.attempt, "Saving revision 1")
    assert await ask(former) == "leave"
    await world.train(later, again)
    assert_ended_once(await ended(world, later, job_id), "stop")
    assert world.serving.swaps == [("uid-1", 1)]
    assert world.jobs_of_revisions("uid-1") == [job_id]


async def test_late_success_is_counted_once(world: World) -> None:
    """The former controller publishes before it knows; the later one ends the job, and counts it."""
    former = await started(world, "old")
    job_id = await submit(former)
    late = await assigned(former)
    later = await started(world, "new")
    await world.train(former, late)
    assert await ask(later) == "leave"
    events = await ended(world, later, job_id)
    assert_ended_once(events, "stop")
    await comes_true(lambda: not world.store.list("jobs-active/"))
    for meter in world.meters:
        await meter.flush()
    parts = [json.loads(world.store.get(key).body) for key in world.store.list("usage/alice/")]
    assert [part["models"]["id-of-uid-1"]["trained_tokens"] for part in parts] == [42]


async def test_late_failure_and_cancellation_change_nothing(world: World) -> None:
    former = await started(world, "old")
    job_id = await submit(former)
    late = await assigned(former)
    later = await started(world, "new")
    again = await assigned(later)
    with pytest.raises(Superseded):
        await former.cancel("alice", job_id)
    with pytest.raises(JobNotFound):
        await former.fail(job_id, late.attempt, "training_failed", "no luck")
    await world.train(later, again)
    assert_ended_once(await ended(world, later, job_id), "stop")
    assert (await later.job("alice", job_id)).status is JobStatus.SUCCEEDED


async def test_job_that_the_former_controller_accepts_late_is_not_lost(world: World) -> None:
    former = await started(world, "old")
    later = await started(world, "new", AT_ONCE_S)
    job_id = await submit(former)
    await becomes_true(lambda: later.is_training("uid-1"))
    assignment = await assigned(later)
    assert assignment.job_id == job_id
    await world.train(later, assignment)
    assert_ended_once(await ended(world, later, job_id), "stop")


async def followed(controller: TrainingController, job_id: str) -> list[str]:
    return [line async for line in controller.events("alice", job_id, follow=True)]


async def test_former_controller_stands_down_by_itself(world: World) -> None:
    former = await started(world, "old", AT_ONCE_S)
    job_id = await submit(former)
    following = asyncio.ensure_future(followed(former, job_id))
    later = await started(world, "new")
    with pytest.raises(Superseded):
        await asyncio.wait_for(following, 20)
    assert await ask(former) == "leave"
    num_runs = len(world.runs)
    for end_run in list(world.runs):
        end_run()
    with pytest.raises(Superseded):
        await submit(former)
    assert (await former.job("alice", job_id)).id == job_id
    assert [job.id for job in await former.list_jobs("alice", None, None, None, 10)] == [job_id]
    assert not await former.is_training("uid-1")
    assert await later.is_training("uid-1")
    assert len(world.runs) == num_runs


async def test_restart_of_the_former_controller_takes_nothing_back(world: World) -> None:
    former = await started(world, "old")
    await submit(former)
    later = await started(world, "new")
    restarted = await started(world, "old")
    assert await is_superseded(restarted)
    assert await ask(restarted) == "leave"
    assert not await is_superseded(later)
    assert await later.is_training("uid-1") and not await restarted.is_training("uid-1")


async def test_restart_within_a_cluster_leads(world: World) -> None:
    before = await started(world, "new")
    job_id = await submit(before)
    after = await started(world, "new")
    assert (await assigned(after)).job_id == job_id
    assert await is_superseded(after) is False


async def test_released_cluster_goes_on_with_the_jobs(world: World) -> None:
    old = await started(world, "old")
    job_id = await submit(old)
    new = await started(world, "new")
    assignment = await assigned(new)
    release(world.store, TRAINER)
    again = await started(world, "old")
    with pytest.raises(JobNotFound):
        await new.inform(job_id, assignment.attempt, "Saving revision 1")
    assert (await assigned(again)).attempt == assignment.attempt + 1


async def test_model_is_not_deleted_by_a_former_controller(world: World) -> None:
    former = await started(world, "old", AT_ONCE_S)
    later = await started(world, "new")
    await submit(later)
    await becomes_true(lambda: is_superseded(former))
    with pytest.raises(Superseded):
        await former.delete_model("alice", private_model("uid-1"))
    assert "uid-1" in world.serving.models


async def test_former_controller_discards_no_revision_of_the_later_one(world: World) -> None:
    """The former controller knows an old list of models and begins a job of the same model."""
    former = await started(world, "old")
    first = await submit(former)
    assert (await assigned(former)).job_id == first
    later = await started(world, "new")
    second = await submit(former)
    old_model = world.serving.models["uid-1"]
    assignment = await assigned(later)
    await world.train(later, assignment)
    await ended(world, later, first)
    world.serving.models["uid-1"] = old_model
    late = await assigned(former)
    assert (late.job_id, late.revision) == (second, 2)
    assert world.jobs_of_revisions("uid-1") == [first]


async def test_revision_of_a_job_that_succeeded_is_published_not_discarded(world: World) -> None:
    """A list of models that is older than the revisions, as after an incomplete restore."""
    controller = world.controller()
    first = await submit(controller)
    old_model = world.serving.models["uid-1"]
    await world.train(controller, await assigned(controller))
    await ended(world, controller, first)
    world.serving.models["uid-1"] = old_model
    second = await submit(controller)
    assignment = await assigned(controller)
    assert (assignment.job_id, assignment.revision) == (second, 2)
    assert world.serving.swaps == [("uid-1", 1), ("uid-1", 1)]
    assert world.jobs_of_revisions("uid-1") == [first]


async def test_reports_of_steps_after_the_takeover_are_lost_not_mixed(world: World) -> None:
    former = await started(world, "old")
    job_id = await submit(former)
    late = await assigned(former)
    later = await started(world, "new")
    again = await assigned(later)
    await former.progress(job_id, late.attempt, progress(1))
    await later.progress(job_id, again.attempt, progress(1))
    await world.train(later, again)
    events = await ended(world, later, job_id)
    assert [event["step"] for event in events if event["type"] == "progress"] == [1]


async def test_controller_whose_catalog_is_being_replaced_goes_on(world: World) -> None:
    """The Catalog that it calls does not lead any more; the next one of the same cluster does."""
    controller = await started(world, "new")
    job_id = await submit(controller)
    assignment = await assigned(controller)
    world.serving.num_failures = 2
    await world.train(controller, assignment)
    assert_ended_once(await ended(world, controller, job_id), "stop")
    assert not await is_superseded(controller)


async def test_publishing_is_not_tried_again_without_end_when_another_cluster_leads(world: World) -> None:
    """The Catalog of the former cluster refuses; its Trainer notices later that it was superseded, too."""
    former = await started(world, "old", AT_ONCE_S)
    job_id = await submit(former)
    late = await assigned(former)
    world.write_manifest(late)
    world.serving.num_failures = 10**9
    completing = asyncio.ensure_future(former.complete(job_id, late.attempt))
    later = await started(world, "new")
    with pytest.raises(JobNotFound):
        await asyncio.wait_for(completing, 20)
    world.serving.num_failures = 0
    assert await ask(later) == "leave"
    assert_ended_once(await ended(world, later, job_id), "stop")
    assert world.serving.swaps == [("uid-1", 1)]
