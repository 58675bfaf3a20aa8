"""Jobs make revisions at the ends of their epochs. The test acts as the worker."""

import asyncio
import json
from typing import Any

import pytest

from registry.errors import JobNotFound, Unavailable
from registry.records import Example, Hyperparameters, JobRequest, JobStatus, Message, Method
from tests.support.training_world import (
    DyingStore,
    World,
    ask,
    assert_ended_once,
    assigned,
    ended,
    private_model,
    progress,
    submit,
)
from tests.support.waiting import comes_true
from training.controller.controller import TrainingController
from training.types import Assignment, Standing

UID = "uid-1"
SAID = (Message(role="user", content="?"), Message(role="assistant", content="a"))
IN_THREE_EPOCHS = JobRequest(
    method=Method.SUPERVISED,
    examples=(Example(messages=SAID),) * 4,
    keeps_epochs=True,
    hyperparameters=Hyperparameters(learning_rate=1e-4, learning_steps=6, beta=0, epsilon=0, batch_size=2),
)


async def submit_epochs(controller: TrainingController) -> str:
    return (await controller.submit("alice", private_model(UID), IN_THREE_EPOCHS)).id


async def keep(world: World, controller: TrainingController, assignment: Assignment, epoch: int) -> Standing:
    """Report the end of an epoch, as a worker does."""
    revision = assignment.revision - 3 + epoch
    await controller.progress(assignment.job_id, assignment.attempt, progress(2 * epoch))
    await asyncio.to_thread(world.write_manifest, assignment, revision, 2 * epoch)
    return await controller.keep(assignment.job_id, assignment.attempt, revision)


async def events_of(controller: TrainingController, job_id: str) -> list[str]:
    lines = [json.loads(line) async for line in controller.events("alice", job_id, follow=False)]
    return [line["message"] for line in lines if line["type"] == "info"]


async def test_revision_of_an_epoch_answers_at_once_and_does_not_become_the_current_one(world: World) -> None:
    controller = await world.restarted()
    job = await submit_epochs(controller)
    assignment = await assigned(controller)
    assert assignment.revision == 3
    assert await keep(world, controller, assignment, 1) is Standing.GOES_ON
    model = world.serving.models[UID]
    assert (model.revision, model.latest_revision) == (0, 1)
    record = await controller.job("alice", job)
    assert [(made.revision, made.step) for made in record.checkpoints] == [(1, 2)]
    assert record.checkpoints[0].metrics == {"loss": 0.5}
    assert (await events_of(controller, job))[-1] == "Revision 1 has the weights after step 2"
    await keep(world, controller, assignment, 2)
    assert world.serving.swaps == []
    await world.train(controller, assignment)
    await ended(world, controller, job)
    model = world.serving.models[UID]
    assert (model.revision, model.latest_revision, world.serving.swaps) == (3, 3, [(UID, 3)])
    assert world.jobs_of_revisions(UID) == [job] * 3
    record = await controller.job("alice", job)
    assert (record.revision, [made.revision for made in record.checkpoints]) == (3, [1, 2])


async def test_revision_that_is_reported_again_is_told_once(world: World) -> None:
    controller = await world.restarted()
    job = await submit_epochs(controller)
    assignment = await assigned(controller)
    world.serving.num_failures = 2
    await asyncio.to_thread(world.write_manifest, assignment, 1, 2)
    reports = (controller.keep(job, assignment.attempt, 1) for _ in range(3))
    assert await asyncio.gather(*reports) == [Standing.GOES_ON] * 3
    assert len((await controller.job("alice", job)).checkpoints) == 1
    assert (await events_of(controller, job)).count("Revision 1 has the weights after step 2") == 1


async def test_only_a_revision_that_this_attempt_may_have_written_is_kept(world: World) -> None:
    controller = await world.restarted()
    job = await submit_epochs(controller)
    stale = await assigned(controller)
    with pytest.raises(JobNotFound):
        await controller.keep(job, stale.attempt, 1)
    assignment = await assigned(controller)
    await asyncio.to_thread(world.write_manifest, assignment, 1, 2)
    with pytest.raises(JobNotFound):
        await controller.keep(job, stale.attempt, 1)
    await asyncio.to_thread(world.write_manifest, assignment)
    with pytest.raises(JobNotFound):
        await controller.keep(job, assignment.attempt, assignment.revision)
    assert world.serving.models[UID].latest_revision == 0


@pytest.mark.parametrize("is_cancelled", [True, False], ids=["cancelled", "failed"])
async def test_job_without_its_last_revision_keeps_the_others_and_the_next_one_counts_on(
    world: World, is_cancelled: bool
) -> None:
    controller = await world.restarted()
    job, following = await submit_epochs(controller), await submit(controller, UID)
    assignment = await assigned(controller)
    await keep(world, controller, assignment, 1)
    if is_cancelled:
        await controller.cancel("alice", job)
        await controller.stopped(job, assignment.attempt)
    else:
        await controller.fail(job, assignment.attempt, "training_diverged", "too far")
    await ended(world, controller, job)
    record = await controller.job("alice", job)
    assert record.status is (JobStatus.CANCELLED if is_cancelled else JobStatus.FAILED)
    assert (record.revision, [made.revision for made in record.checkpoints]) == (None, [1])
    second = await assigned(controller)
    assert (second.job_id, second.parent_revision, second.revision) == (following, 0, 2)
    await world.train(controller, second)
    assert world.jobs_of_revisions(UID) == [following, job]
    assert world.serving.swaps == [(UID, 2)]


async def test_revision_that_was_written_and_not_reported_is_discarded_for_the_next_job(world: World) -> None:
    controller = await world.restarted()
    job, following = await submit_epochs(controller), await submit_epochs(controller)
    assignment = await assigned(controller)
    await keep(world, controller, assignment, 1)
    await controller.cancel("alice", job)
    await asyncio.to_thread(world.write_manifest, assignment, 2, 4)
    await controller.stopped(job, assignment.attempt)
    await ended(world, controller, job)
    second = await assigned(controller)
    assert (second.job_id, second.revision) == (following, 4)
    await keep(world, controller, second, 1)
    await keep(world, controller, second, 2)
    await world.train(controller, second)
    assert world.jobs_of_revisions(UID) == [following] * 3 + [job]


async def test_revision_that_a_record_lists_and_the_model_does_not_know_is_kept(world: World) -> None:
    """So it is after a restore, if the model was copied before the job."""
    controller = await world.restarted()
    job = await submit_epochs(controller)
    assignment = await assigned(controller)
    before = world.serving.models[UID]
    await keep(world, controller, assignment, 1)
    await controller.fail(job, assignment.attempt, "training_failed", "no luck")
    await ended(world, controller, job)
    world.serving.models[UID] = before
    await submit(controller, UID)
    assert (await assigned(controller)).revision == 2
    assert world.serving.models[UID].latest_revision == 1


async def test_next_attempt_has_the_same_numbers_and_repeats_what_is_there_without_harm(world: World) -> None:
    controller = await world.restarted()
    job = await submit_epochs(controller)
    await keep(world, controller, await assigned(controller), 1)
    first = world.revisions.manifest(UID, 1)
    again = await assigned(await world.restarted())
    assert (again.attempt, again.revision) == (2, 3)
    await asyncio.to_thread(world.write_manifest, again, 1, 2)
    assert world.revisions.manifest(UID, 1) == first
    assert (await controller.job("alice", job)).checkpoints[0].revision == 1


async def train_all(world: World, controller: TrainingController, assignment: Assignment) -> None:
    for epoch in (1, 2):
        await keep(world, controller, assignment, epoch)
    await world.train(controller, assignment)


async def finish_all(world: World, controller: TrainingController, job_id: str) -> list[dict[str, Any]]:
    """Act as a worker that asks until the job has ended."""
    following = asyncio.ensure_future(ended(world, controller, job_id))
    while not following.done():
        asking = asyncio.ensure_future(ask(controller))
        await asyncio.wait({asking, following}, timeout=30, return_when=asyncio.FIRST_COMPLETED)
        if asking.done() and isinstance(order := asking.result(), Assignment):
            await train_all(world, controller, order)
        asking.cancel()
    return await following


@pytest.mark.parametrize("num_writes", range(3, 17, 2))
async def test_every_revision_is_made_once_wherever_the_controller_dies(
    world: World, num_writes: int
) -> None:
    dying = DyingStore(world.store, num_writes)
    controller = world.controller(dying)
    job = await submit_epochs(controller)
    working = asyncio.ensure_future(_work(world, controller))
    await comes_true(lambda: dying.is_dead or working.done())
    working.cancel()
    after = await world.restarted(idle_timeout_s=0.1)
    record = await after.job("alice", job)
    if not record.status.is_terminal:
        assert_ended_once(await finish_all(world, after, job), "stop")
    record = await after.job("alice", job)
    assert (record.status, record.revision) == (JobStatus.SUCCEEDED, 3)
    assert [(made.revision, made.step) for made in record.checkpoints] == [(1, 2), (2, 4)]
    assert world.jobs_of_revisions(UID) == [job] * 3
    assert world.serving.swaps == [(UID, 3)]


async def _work(world: World, controller: TrainingController) -> None:
    try:
        await train_all(world, controller, await assigned(controller))
    except Unavailable:
        return
