"""Held jobs whose controller died after it had saved why they end, and before it had saved their end."""

import pytest

from registry.records import JobStatus
from tests.support.training_world import DyingStore, World, ask, assigned, ended, submit
from tests.support.waiting import comes_true
from training.controller.controller import TrainingController
from training.types import Instruction


async def shown(controller: TrainingController, job_id: str) -> JobStatus:
    return (await controller.job("alice", job_id)).shown_status


@pytest.mark.parametrize("status", [JobStatus.CANCELLED, JobStatus.FAILED])
async def test_held_job_whose_end_was_not_saved_ends_with_the_next_controller(
    world: World, status: JobStatus
) -> None:
    """It must not wait for its user, who was told of its end, nor hold up the jobs behind it."""
    dying = DyingStore(world.store, 100)
    before = world.controller(dying)
    job, following = await submit(before), await submit(before)
    assignment = await assigned(before)
    await before.pause("alice", job)
    dying.left = 2  # the events and the record, with the cause of the end
    if status is JobStatus.CANCELLED:
        await before.cancel("alice", job)
        await before.stopped(job, assignment.attempt)
    else:
        await before.fail(job, assignment.attempt, "training_failed", "no luck")
    assert await shown(before, job) is status
    await comes_true(lambda: dying.is_dead)
    after = await world.restarted()
    assert (await assigned(after)).job_id == following
    await ended(world, after, job)
    assert await shown(after, job) is status


async def test_job_that_was_cancelled_behind_a_held_one_ends_with_the_next_controller(world: World) -> None:
    dying = DyingStore(world.store, 100)
    before = world.controller(dying)
    held, cancelled = await submit(before), await submit(before)
    await before.pause("alice", held)
    dying.left = 2  # the events and the record, with the cancellation
    await before.cancel("alice", cancelled)
    await comes_true(lambda: dying.is_dead)
    after = await world.restarted(idle_timeout_s=0.1)
    assert await ask(after) is Instruction.LEAVE
    assert await shown(after, cancelled) is JobStatus.CANCELLED
    assert await shown(after, held) is JobStatus.PAUSED
    await ended(world, after, cancelled)
