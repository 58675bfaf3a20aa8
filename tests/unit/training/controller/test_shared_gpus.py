"""Replicas and a training worker take turns on one GPU, however the job ends. The test acts as the worker."""

import asyncio

import pytest

from registry.errors import JobNotFound
from registry.retry import Retry
from tests.support.training_world import BASE, World, assigned, ended, progress, submit
from tests.support.waiting import comes_true
from training.controller.controller import TrainingController
from training.controller.shared_gpus import SharedGpus
from training.settings import TrainingSettings
from training.types import Assignment, Place, Standing

PLACE = Place(step=1, steps=5, share=0.5)


async def borrowed(controller: TrainingController) -> Assignment:
    """The assignment of a worker that has just begun and has borrowed the GPU."""
    assignment = await assigned(controller)
    await controller.borrow_gpu(assignment.job_id, assignment.attempt)
    return assignment


async def test_replicas_have_the_gpu_but_for_the_turns_of_a_worker(world: World) -> None:
    controller = await world.restarted(share_gpu=True)
    await submit(controller)
    assignment = await assigned(controller)
    attempt = (assignment.job_id, assignment.attempt)
    assert world.serving.has_gpu, "the worker still reads the revision that it begins with"
    await controller.borrow_gpu(*attempt)
    assert not world.serving.has_gpu
    await controller.return_gpu(*attempt)
    assert world.serving.has_gpu, "the worker still writes the new revision"
    await world.train(controller, assignment)
    await ended(world, controller, assignment.job_id)


async def test_the_end_of_a_job_gives_the_gpu_back(world: World) -> None:
    controller = await world.restarted(share_gpu=True)
    jobs = [await submit(controller) for _ in range(3)]
    assignment = await borrowed(controller)
    await world.train(controller, assignment)
    await ended(world, controller, jobs[0])
    assert world.serving.has_gpu
    assignment = await borrowed(controller)
    await controller.fail(jobs[1], assignment.attempt, "training_failed", "it failed")
    assert world.serving.has_gpu
    assignment = await borrowed(controller)
    await controller.cancel("alice", jobs[2])
    assert not world.serving.has_gpu
    await controller.stopped(jobs[2], assignment.attempt)
    assert world.serving.has_gpu


async def test_a_worker_that_died_has_no_gpu(world: World) -> None:
    controller = await world.restarted(share_gpu=True)
    await submit(controller)
    assignment = await borrowed(controller)
    await controller.enter(BASE)
    assert world.serving.has_gpu
    await assigned(controller)
    with pytest.raises(JobNotFound):
        await controller.borrow_gpu(assignment.job_id, assignment.attempt)
    assert world.serving.has_gpu


async def test_a_new_controller_takes_back_what_the_old_one_lent(world: World) -> None:
    controller = await world.restarted(share_gpu=True)
    await submit(controller)
    await borrowed(controller)
    world.serving.num_failures = 3
    restarted = await world.restarted(share_gpu=True)
    await restarted.enter(BASE)
    assert world.serving.has_gpu


async def test_superseded_controller_leaves_the_gpu_to_the_later_one(world: World) -> None:
    controller = await world.restarted(share_gpu=True)
    await submit(controller)
    assignment = await borrowed(controller)
    world.serving.has_later_trainer = True
    await asyncio.wait_for(controller.return_gpu(assignment.job_id, assignment.attempt), 20)
    assert not world.serving.has_gpu, "the worker of the later one may use it"
    with pytest.raises(JobNotFound):
        await controller.borrow_gpu(assignment.job_id, assignment.attempt)
    assert not await controller.is_training("uid-1"), "it has stood down"


async def test_who_does_not_share_keeps_it(world: World) -> None:
    controller = await world.restarted()
    await submit(controller)
    await borrowed(controller)
    assert world.serving.has_gpu


async def test_a_job_gives_way_to_generations_that_wait_when_its_slice_is_over(world: World) -> None:
    controller = await world.restarted(share_gpu=True, slice_s=0.01)
    job_id = await submit(controller)
    assignment = await borrowed(controller)
    attempt = (job_id, assignment.attempt)
    assert await controller.progress(*attempt, progress(1)) is Standing.GOES_ON
    world.serving.num_waiting = 1
    async with asyncio.timeout(20):
        while await controller.look(*attempt, PLACE) is not Standing.GIVES_WAY:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await controller.return_gpu(*attempt)
    await controller.paused(*attempt)
    assert world.serving.has_gpu


async def test_long_answers_of_one_base_model_do_not_keep_another_asleep(world: World) -> None:
    settings = {name: TrainingSettings(share_gpu=True) for name in (BASE, "other")}
    gpus = SharedGpus(world.serving, settings, Retry())
    await gpus.take_all_back(settings)
    await gpus.lend("other")
    world.serving.may_finish.clear()
    lending = asyncio.create_task(gpus.lend(BASE))
    await asyncio.wait_for(gpus.take_back("other"), 20)
    assert not lending.done() and world.serving.has_gpu
    world.serving.may_finish.set()
    await asyncio.wait_for(lending, 20)
    assert not world.serving.has_gpu
    await gpus.take_all_back(settings)


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


async def test_generations_wait_for_a_slice_and_not_longer(world: World) -> None:
    clock = Clock()
    settings = {BASE: TrainingSettings(share_gpu=True, slice_s=30)}
    gpus = SharedGpus(world.serving, settings, Retry(), clock, look_interval_s=0)
    await gpus.take_back(BASE)
    clock.now_s = 100
    await gpus.lend(BASE)
    world.serving.num_waiting = 2
    clock.now_s = 130
    await comes_true(lambda: gpus.must_return(BASE))
    clock.now_s = 129
    assert not gpus.must_return(BASE)
    clock.now_s = 130
    world.serving.num_waiting = 0
    await comes_true(lambda: not gpus.must_return(BASE))
    await gpus.take_back(BASE)


async def test_a_replica_that_died_has_the_gpu_after_a_slice(world: World) -> None:
    """It finds no memory to start while the training has the GPU."""
    clock = Clock()
    settings = {BASE: TrainingSettings(share_gpu=True, slice_s=30)}
    gpus = SharedGpus(world.serving, settings, Retry(), clock, look_interval_s=0)
    await gpus.take_back(BASE)
    await gpus.lend(BASE)
    world.serving.is_replica_away = True
    clock.now_s = 30
    await comes_true(lambda: gpus.must_return(BASE))
    clock.now_s = 29
    assert not gpus.must_return(BASE)
    await gpus.take_back(BASE)
