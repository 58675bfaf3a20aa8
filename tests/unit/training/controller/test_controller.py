"""The controller on a real object store. `tests.support.training_world` has worker and serving side."""

import asyncio
import json

import pytest

from registry.errors import JobNotFound, ModelInUse, ModelNotFound, QuotaExceeded, Unavailable
from registry.records import JobStatus
from tests.support.serving_side import ServingSide
from tests.support.training_world import (
    REQUEST,
    DyingStore,
    World,
    ask,
    assert_ended_once,
    assigned,
    ended,
    idle,
    private_model,
    submit,
)
from tests.support.waiting import comes_true
from training.controller.controller import TrainingController

# Journeys


async def test_training_makes_the_next_revision(world: World) -> None:
    controller = world.controller()
    job_id = await submit(controller)
    assert (await controller.job("alice", job_id)).status == JobStatus.QUEUED
    assignment = await assigned(controller)
    assert (await controller.job("alice", job_id)).status == JobStatus.RUNNING
    assert (assignment.revision, assignment.parent_revision, assignment.attempt) == (1, 0, 1)
    assert not assignment.has_parent_adapter
    assert assignment.request == REQUEST
    await world.train(controller, assignment)
    assert_ended_once(await ended(world, controller, job_id), "stop")
    record = await controller.job("alice", job_id)
    assert (record.status, record.revision, record.step) == (JobStatus.SUCCEEDED, 1, 5)
    assert (record.metrics, record.trained_tokens, record.duration_s) == ({"loss": 0.5}, 42, 1.5)
    assert world.serving.swaps == [("uid-1", 1)]
    assert world.serving.preloads == ["uid-1@1"]
    assert world.store.list("jobs-active/") == []


async def test_stop_carries_the_result(world: World) -> None:
    controller = world.controller()
    job_id = await submit(controller)
    await world.train(controller, await assigned(controller))
    assert (await ended(world, controller, job_id))[-1] == {
        "type": "stop",
        "stop_reason": "completed",
        "job": job_id,
        "model": "id-of-uid-1",
        "revision": 1,
        "metrics": {"loss": 0.5},
        "usage": {"trained_tokens": 42, "duration": 1.5, "duration_ms": 1500},
    }


async def test_trainings_of_a_model_run_in_the_order_accepted(world: World) -> None:
    controller = world.controller()
    accepted = [await submit(controller) for _ in range(3)]
    seen = []
    for revision in (1, 2, 3):
        assignment = await assigned(controller)
        assert (assignment.parent_revision, assignment.revision) == (revision - 1, revision)
        assert assignment.has_parent_adapter == (revision > 1)
        seen.append(assignment.job_id)
        await world.train(controller, assignment)
    assert seen == accepted
    assert world.serving.swaps == [("uid-1", 1), ("uid-1", 2), ("uid-1", 3)]


async def test_users_come_in_turn(world: World) -> None:
    controller = world.controller()
    for uid, user in (("uid-1", "alice"), ("uid-1", "alice"), ("uid-2", "bob")):
        await submit(controller, uid, user)
    users = []
    for _ in range(3):
        assignment = await assigned(controller)
        users.append(assignment.user)
        await world.train(controller, assignment)
    assert users == ["alice", "bob", "alice"]


async def test_training_goes_on_from_the_active_revision(world: World) -> None:
    controller = world.controller()
    model = world.serving.models["uid-1"]
    world.serving.models["uid-1"] = model.model_copy(update={"revision": 2, "latest_revision": 7})
    await submit(controller)
    assignment = await assigned(controller)
    assert (assignment.parent_revision, assignment.revision) == (2, 8)


async def test_preload_that_fails_does_not_fail_the_training(world: World) -> None:
    class Broken(ServingSide):
        async def preload(self, base_model: str, adapter_id: str) -> None:
            raise RuntimeError("no replica")

    world.serving = Broken(private_model())
    controller = world.controller()
    job_id = await submit(controller)
    await world.train(controller, await assigned(controller))
    assert_ended_once(await ended(world, controller, job_id), "stop")


async def test_failed_training_ends_with_its_error(world: World) -> None:
    controller = world.controller()
    job_id = await submit(controller)
    assignment = await assigned(controller)
    await controller.fail(job_id, assignment.attempt, "training_failed", "no luck")
    events = await ended(world, controller, job_id)
    assert_ended_once(events, "error")
    assert events[-1]["error"] == {
        "type": "server_error",
        "code": "training_failed",
        "message": "no luck",
        "param": None,
    }
    record = await controller.job("alice", job_id)
    assert (record.status, record.revision) == (JobStatus.FAILED, None)
    assert record.error is not None and record.error.message == "no luck"


async def test_failed_training_lets_the_next_one_make_its_revision(world: World) -> None:
    controller = world.controller()
    await submit(controller)
    second = await submit(controller)
    first = await assigned(controller)
    await controller.fail(first.job_id, first.attempt, "training_failed", "no luck")
    assignment = await assigned(controller)
    assert (assignment.job_id, assignment.revision) == (second, 1)


# Models and users


async def test_model_in_training_is_not_deleted(world: World) -> None:
    controller = world.controller()
    job_id = await submit(controller)
    with pytest.raises(ModelInUse):
        await controller.delete_model("alice", private_model())
    await world.train(controller, await assigned(controller))
    await ended(world, controller, job_id)
    await idle(controller, "uid-1")
    await controller.delete_model("alice", private_model())
    assert "uid-1" not in world.serving.models


async def test_training_accepted_at_the_same_moment_stops_the_deletion(world: World) -> None:
    controller = world.controller()
    accepted, deleted = await asyncio.gather(
        submit(controller), controller.delete_model("alice", private_model()), return_exceptions=True
    )
    assert isinstance(accepted, str)
    assert isinstance(deleted, ModelInUse)


async def test_training_is_refused_while_its_model_is_deleted(world: World) -> None:
    controller = world.controller()
    world.serving.may_delete.clear()
    deleting = asyncio.ensure_future(controller.delete_model("alice", private_model()))
    await asyncio.sleep(0)
    with pytest.raises(ModelNotFound):
        await submit(controller)
    world.serving.may_delete.set()
    await deleting
    assert world.store.list("jobs") == []


async def test_job_of_a_deleted_model_fails_and_the_next_goes_on(world: World) -> None:
    controller = world.controller()
    job_id = await submit(controller)
    await submit(controller, "uid-2", "bob")
    del world.serving.models["uid-1"]
    assert (await assigned(controller)).uid == "uid-2"
    assert (await ended(world, controller, job_id))[-1]["error"]["code"] == "model_not_found"


async def test_quota_counts_one_users_unfinished_jobs(world: World) -> None:
    controller = world.controller()
    for uid in ("uid-1", "uid-2", "uid-3"):
        await submit(controller, uid)
    with pytest.raises(QuotaExceeded):
        await submit(controller)
    await submit(controller, "uid-4", "bob")
    await world.train(controller, await assigned(controller))
    await idle(controller, "uid-1")
    await submit(controller)


async def test_quota_holds_against_submissions_at_once(world: World) -> None:
    controller = world.controller()
    answers = await asyncio.gather(*(submit(controller) for _ in range(6)), return_exceptions=True)
    assert sum(isinstance(answer, QuotaExceeded) for answer in answers) == 3


@pytest.mark.parametrize("is_finished", [False, True])
async def test_job_of_another_user_is_not_found(world: World, is_finished: bool) -> None:
    controller = world.controller()
    job_id = await submit(controller)
    if is_finished:
        await world.train(controller, await assigned(controller))
        await ended(world, controller, job_id)
    with pytest.raises(JobNotFound) as foreign:
        await controller.job("bob", job_id)
    with pytest.raises(JobNotFound) as absent:
        await controller.job("bob", "job-" + "0" * 24)
    assert foreign.value.args == absent.value.args
    with pytest.raises(JobNotFound):
        await anext(controller.events("bob", job_id, follow=True))
    assert await controller.list_jobs("bob", None, None, None, 10) == []


async def test_submission_that_storage_refused_leaves_nothing(world: World) -> None:
    controller = world.controller(DyingStore(world.store, 1))
    with pytest.raises(Unavailable):
        await submit(controller)
    await idle(controller, "uid-1")
    assert world.runs == []


# Runs


async def test_run_that_ends_with_work_queued_is_started_again(world: World) -> None:
    controller = world.controller()
    job_id = await submit(controller)
    await assigned(controller)
    assert len(world.runs) == 1
    world.runs[0]()
    await comes_true(lambda: len(world.runs) == 2)
    again = await assigned(controller)
    assert (again.job_id, again.attempt) == (job_id, 2)


async def test_idle_run_leaves_and_the_next_job_starts_one(world: World) -> None:
    controller = world.controller(idle_timeout_s=0.1)
    await submit(controller)
    await world.train(controller, await assigned(controller))
    assert await ask(controller) == "leave"
    world.runs[0]()
    await submit(controller)
    assert len(world.runs) == 2


async def test_waiting_job_is_told_why_its_run_cannot_start(world: World) -> None:
    controller = world.controller()
    job_id = await submit(controller)
    world.runs[0]("OutOfMemoryError")
    await told(controller, job_id, "The training cannot start and is tried again: OutOfMemoryError")
    await comes_true(lambda: len(world.runs) == 2)
    await world.train(controller, await assigned(controller))
    assert_ended_once(await ended(world, controller, job_id), "stop")


async def test_job_whose_run_ended_later_is_not_told_that_it_cannot_start(world: World) -> None:
    controller = world.controller()
    job_id = await submit(controller)
    await assigned(controller)
    world.runs[0]("OutOfMemoryError")
    await comes_true(lambda: len(world.runs) == 2)
    await world.train(controller, await assigned(controller))
    events = await ended(world, controller, job_id)
    assert not any("cannot start" in event.get("message", "") for event in events)


async def told(controller: TrainingController, job_id: str, message: str) -> None:
    """Wait until the job has an event with this message."""
    async with asyncio.timeout(20):
        async for line in controller.events("alice", job_id, follow=True):
            if json.loads(line).get("message") == message:
                return
