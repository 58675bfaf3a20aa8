"""Cancelled and repeated jobs, on a real object store. The test acts as the worker."""

import asyncio
from pathlib import Path

import pytest

from registry.errors import IdempotencyConflict, JobNotFound
from registry.records import JobStatus
from tests.support.training_world import (
    REQUEST,
    World,
    assigned,
    ended,
    private_model,
    progress,
    submit,
)
from training.types import Standing


async def test_waiting_job_is_cancelled_at_once(world: World) -> None:
    controller = await world.restarted()
    first, second = [await submit(controller) for _ in range(2)]
    assert (await controller.cancel("alice", second)).status == JobStatus.CANCELLED
    events = await ended(world, controller, second)
    assert events[-1]["error"]["code"] == "training_cancelled"
    assert events[-1]["message"] == events[-1]["error"]["message"] == "the training was cancelled"
    assignment = await assigned(controller)
    assert assignment.job_id == first
    await world.train(controller, assignment)
    assert world.jobs_of_revisions("uid-1") == [first]


async def test_running_job_learns_of_its_cancellation_with_its_next_report(world: World) -> None:
    controller = await world.restarted()
    job = await submit(controller)
    assignment = await assigned(controller)
    assert await controller.progress(job, assignment.attempt, progress(1)) is Standing.GOES_ON
    assert (await controller.cancel("alice", job)).status == JobStatus.RUNNING
    assert await controller.progress(job, assignment.attempt, progress(2)) is Standing.IS_CANCELLED
    await controller.stopped(job, assignment.attempt)
    assert (await ended(world, controller, job))[-1]["error"]["code"] == "training_cancelled"
    record = await controller.job("alice", job)
    assert (record.status, record.revision, record.step) == (JobStatus.CANCELLED, None, 2)


async def test_state_of_a_cancelled_job_is_removed(world: World, tmp_path: Path) -> None:
    controller = await world.restarted()
    job = await submit(controller)
    assignment = await assigned(controller)
    (tmp_path / "state").write_bytes(b"so far")
    world.revisions.save_state(assignment.uid, assignment.revision, job, tmp_path / "state")
    await controller.cancel("alice", job)
    await controller.stopped(job, assignment.attempt)
    await ended(world, controller, job)
    assert not world.store.list(f"models/{assignment.uid}/")


async def test_next_job_takes_the_revision_of_a_cancelled_one(world: World) -> None:
    controller = await world.restarted()
    jobs = [await submit(controller) for _ in range(2)]
    assignment = await assigned(controller)
    await controller.cancel("alice", jobs[0])
    await controller.stopped(jobs[0], assignment.attempt)
    following = await assigned(controller)
    assert (following.job_id, following.revision) == (jobs[1], assignment.revision)


async def test_cancellation_survives_a_crash(world: World) -> None:
    controller = await world.restarted()
    job, other = [await submit(controller) for _ in range(2)]
    await assigned(controller)
    await controller.cancel("alice", job)
    restarted = await world.restarted()
    assert (await assigned(restarted)).job_id == other
    assert (await restarted.job("alice", job)).status == JobStatus.CANCELLED


async def test_published_job_cannot_be_cancelled(world: World) -> None:
    controller = await world.restarted()
    job = await submit(controller)
    assignment = await assigned(controller)
    await world.train(controller, assignment)
    await controller.cancel("alice", job)
    await ended(world, controller, job)
    assert (await controller.cancel("alice", job)).status == JobStatus.SUCCEEDED


async def test_foreign_job_cannot_be_cancelled(world: World) -> None:
    controller = await world.restarted()
    job = await submit(controller)
    with pytest.raises(JobNotFound):
        await controller.cancel("bob", job)
    assert (await assigned(controller)).job_id == job


async def test_requests_with_one_key_are_one_job(world: World) -> None:
    controller = await world.restarted()
    model = private_model("uid-1")
    records = await asyncio.gather(*(controller.submit("alice", model, REQUEST, "key") for _ in range(5)))
    assert len({record.id for record in records}) == 1
    restarted = await world.restarted()
    assert (await restarted.submit("alice", model, REQUEST, "key")).id == records[0].id
    await world.train(restarted, await assigned(restarted))
    await ended(world, restarted, records[0].id)
    assert (await restarted.submit("alice", model, REQUEST, "key")).status == JobStatus.SUCCEEDED


async def test_key_with_another_model_is_a_conflict_and_of_another_user_is_not(world: World) -> None:
    controller = await world.restarted()
    first = await controller.submit("alice", private_model("uid-1"), REQUEST, "key")
    with pytest.raises(IdempotencyConflict):
        await controller.submit("alice", private_model("uid-2"), REQUEST, "key")
    assert (await controller.submit("bob", private_model("uid-3"), REQUEST, "key")).id != first.id
