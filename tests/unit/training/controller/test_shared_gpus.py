"""Replicas and a training worker take turns on one GPU, however the job ends. The test acts as the worker."""

from tests.support.training_world import BASE, World, assigned, ended, submit


async def test_replicas_have_the_gpu_but_for_the_time_of_a_job(world: World) -> None:
    controller = await world.restarted(share_gpu=True)
    jobs = [await submit(controller) for _ in range(3)]
    assert world.serving.has_gpu
    assignment = await assigned(controller)
    assert not world.serving.has_gpu
    await world.train(controller, assignment)
    await ended(world, controller, jobs[0])
    assert world.serving.has_gpu
    assignment = await assigned(controller)
    assert not world.serving.has_gpu
    await controller.fail(jobs[1], assignment.attempt, "training_failed", "it failed")
    assert world.serving.has_gpu
    assignment = await assigned(controller)
    await controller.cancel("alice", jobs[2])
    assert not world.serving.has_gpu
    await controller.stopped(jobs[2], assignment.attempt)
    assert world.serving.has_gpu


async def test_a_worker_that_died_has_no_gpu(world: World) -> None:
    controller = await world.restarted(share_gpu=True)
    await submit(controller)
    await assigned(controller)
    await controller.enter(BASE)
    assert world.serving.has_gpu


async def test_a_new_controller_takes_back_what_the_old_one_lent(world: World) -> None:
    controller = await world.restarted(share_gpu=True)
    await submit(controller)
    await assigned(controller)
    world.serving.num_failures = 3
    restarted = await world.restarted(share_gpu=True)
    await restarted.enter(BASE)
    assert world.serving.has_gpu


async def test_who_does_not_share_keeps_it(world: World) -> None:
    controller = await world.restarted()
    await submit(controller)
    await assigned(controller)
    assert world.serving.has_gpu
