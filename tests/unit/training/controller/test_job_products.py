"""Fine-tuning jobs leave a result file, or take the copy of a model away that was made for them."""

import asyncio
import json

import pytest

from registry.file_lists import content_key
from registry.fine_tuning import FineTuning, FineTuningHyperparameters, result_file_id
from registry.jobs import Jobs
from registry.records import JobStatus
from tests.support.training_world import (
    REQUEST,
    DyingStore,
    World,
    ask,
    assigned,
    ended,
    private_model,
    progress,
    submit,
)
from tests.support.waiting import comes_true
from training.controller.controller import TrainingController
from training.controller.job_products import result_csv

UID = "uid-1"


async def submit_shown(controller: TrainingController, makes_model: bool = True) -> str:
    shown = FineTuning(
        method="supervised",
        model="base",
        makes_model=makes_model,
        training_file="file-1",
        seed=1,
        hyperparameters=FineTuningHyperparameters(batch_size=1, learning_rate_multiplier=1, num_epochs=1),
    )
    return (await controller.submit("alice", private_model(UID), REQUEST, fine_tuning=shown)).id


def test_csv_has_each_step_once_and_leaves_out_what_was_not_measured() -> None:
    events = [
        {"type": "info", "message": "Queued"},
        {"type": "progress", "step": 1, "loss": 9.0, "token_accuracy": 0.1},
        {"type": "progress", "step": 1, "loss": 2.0, "token_accuracy": 0.5},
        {"type": "progress", "step": 2, "loss": 1.0, "reward_accuracy": 1, "valid_loss": 3},
    ]
    assert result_csv(map(json.dumps, events)).decode().splitlines() == [
        "step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy",
        "1,2.0,0.5,,",
        "2,1.0,1,3,",
    ]


async def test_job_that_succeeds_makes_one_result_file(world: World) -> None:
    controller = await world.restarted()
    job = await submit_shown(controller)
    assignment = await assigned(controller)
    await controller.progress(job, assignment.attempt, progress(1))
    await world.train(controller, assignment)
    events = await ended(world, controller, job)
    assert all(event["created_at"] > 0 for event in events)
    ((user, record),) = world.serving.files
    content = world.store.get(content_key("alice", record.id)).body
    assert (user, record.id, record.size_bytes) == ("alice", result_file_id(job), len(content))
    assert content.splitlines()[1].startswith(b"1,")
    assert UID in world.serving.models


async def test_training_of_the_other_api_leaves_its_model_and_makes_no_file(world: World) -> None:
    controller = await world.restarted()
    job = await submit(controller)
    await controller.cancel("alice", job)
    events = await ended(world, controller, job)
    assert UID in world.serving.models and world.serving.files == []
    assert all("created_at" not in event for event in events)


@pytest.mark.parametrize("makes_model", [True, False])
@pytest.mark.parametrize("end", [JobStatus.CANCELLED, JobStatus.FAILED])
async def test_only_a_copy_made_for_the_job_goes_away(
    world: World, makes_model: bool, end: JobStatus
) -> None:
    controller = await world.restarted()
    job = await submit_shown(controller, makes_model)
    if end is JobStatus.CANCELLED:
        await controller.cancel("alice", job)
    else:
        assignment = await assigned(controller)
        await controller.fail(job, assignment.attempt, "training_failed", "no luck")
    await ended(world, controller, job)
    assert (await controller.job("alice", job)).status is end
    assert (UID in world.serving.models) is not makes_model


async def test_copy_stays_while_it_has_another_training_or_a_revision(world: World) -> None:
    controller = await world.restarted()
    first, other = await submit_shown(controller), await submit(controller, UID)
    await controller.cancel("alice", first)
    await ended(world, controller, first)
    assert UID in world.serving.models
    await world.train(controller, await assigned(controller))
    await ended(world, controller, other)
    last = await submit_shown(controller)
    await controller.cancel("alice", last)
    await ended(world, controller, last)
    assert world.serving.models[UID].latest_revision == 1


async def test_next_controller_takes_the_copy_away_if_this_one_dies_before_it(world: World) -> None:
    store = DyingStore(world.store, num_writes=10**6)
    controller = world.controller(store)
    await controller.recover()
    job = await submit_shown(controller)
    world.serving.may_delete.clear()
    cancelling = asyncio.create_task(controller.cancel("alice", job))
    await comes_true(lambda: Jobs(world.store).load("alice", job).is_cancelled)
    store.left = 0
    cancelling.cancel()
    world.serving.may_delete = asyncio.Event()  # the first controller waits for the former one
    world.serving.may_delete.set()
    assert UID in world.serving.models
    following = await world.restarted()
    worker = asyncio.create_task(ask(following))
    await ended(world, following, job)
    worker.cancel()
    assert UID not in world.serving.models
