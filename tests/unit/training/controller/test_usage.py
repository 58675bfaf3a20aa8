"""The usage that a training adds to its user's, on a real object store. The test acts as the worker."""

import asyncio
from datetime import timedelta

import pytest

from registry.meter import utc_today
from registry.records import Example, JobStatus, Message, Method
from registry.usage import Usage, UsageParts
from tests.support.training_world import (
    REQUEST,
    DyingStore,
    World,
    ask,
    assigned,
    ended,
    private_model,
    submit,
)
from tests.support.waiting import comes_true

TRAINING = Usage(trained_tokens=42, training_seconds=1.5)


async def usage_of(world: World, user: str = "alice") -> dict[str, Usage]:
    """The usage by model that is in the bucket when all tasks have ended and all meters are flushed."""
    await comes_true(lambda: asyncio.all_tasks() == {asyncio.current_task()})
    for meter in world.meters:
        await meter.flush()
    today, day = utc_today(), timedelta(days=1)
    sums = await asyncio.to_thread(UsageParts(world.store).sums, user, today - day, today + day)
    return {model: usage for (_, model), usage in sums.items()}


async def test_training_counts_once_though_its_completion_is_told_twice(world: World) -> None:
    controller = await world.restarted()
    job = await submit(controller)
    assignment = await assigned(controller)
    await asyncio.to_thread(world.write_manifest, assignment)
    complete = controller.complete
    await asyncio.gather(*(complete(job, assignment.attempt) for _ in range(3)), return_exceptions=True)
    await ended(world, controller, job)
    assert await usage_of(world) == {"id-of-uid-1": TRAINING}
    assert await usage_of(world, user="bob") == {}


async def test_training_without_a_revision_costs_nothing(world: World) -> None:
    controller = await world.restarted()
    failed, cancelled = [await submit(controller) for _ in range(2)]
    await controller.cancel("alice", cancelled)
    assignment = await assigned(controller)
    await controller.fail(failed, assignment.attempt, "training_failed", "no luck")
    for job in (failed, cancelled):
        await ended(world, controller, job)
    assert await usage_of(world) == {}


@pytest.mark.parametrize("is_cancelled", [True, False], ids=["cancelled", "failed"])
async def test_training_that_leaves_a_checkpoint_costs_what_that_did(
    world: World, is_cancelled: bool
) -> None:
    """Its user keeps the checkpoint. Else all epochs but the last one would be free."""
    request = REQUEST.model_copy(
        update={
            "method": Method.SUPERVISED,
            "examples": (Example(messages=(Message(role="assistant", content="Yes"),)),),
            "keeps_epochs": True,
        }
    )
    controller = await world.restarted()
    job = (await controller.submit("alice", private_model(), request)).id
    assignment = await assigned(controller)
    await asyncio.to_thread(world.write_manifest, assignment, 1, 1)
    await controller.keep(job, assignment.attempt, 1)
    if is_cancelled:
        await controller.cancel("alice", job)
        await controller.stopped(job, assignment.attempt)
    else:
        await controller.fail(job, assignment.attempt, "training_failed", "no luck")
    await ended(world, controller, job)
    assert await usage_of(world) == {"id-of-uid-1": TRAINING}


async def test_training_whose_end_a_dead_trainer_did_not_save_counts_once(world: World) -> None:
    dying = DyingStore(world.store, 1000)
    lost = world.controller(dying)
    job = await submit(lost)
    assignment = await assigned(lost)
    dying.left = 0
    await world.train(lost, assignment)
    await comes_true(lambda: dying.is_dead)
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()
    successor = await world.restarted()
    asking = asyncio.ensure_future(ask(successor))
    await ended(world, successor, job)
    asking.cancel()
    assert (await successor.job("alice", job)).status == JobStatus.SUCCEEDED
    assert await usage_of(world) == {"id-of-uid-1": TRAINING}
