"""Base models come and go, and their settings change, while their jobs wait and run."""

import asyncio
import json

import pytest

from registry.errors import JobNotFound
from tests.support.training_world import BASE, World, ask, assigned, ended, submit
from tests.support.waiting import comes_true
from training.controller.controller import TrainingController
from training.settings import TrainingSettings

NOT_DEPLOYED = f"Base model {BASE} is not deployed; the training waits for it"


async def redeploy(
    controller: TrainingController, *base_models: str, outdated: tuple[str, ...] = (), max_queued: int = 3
) -> None:
    settings = {base_model: TrainingSettings() for base_model in base_models}
    await controller.redeployment.apply(settings, max_queued, outdated)


async def messages(controller: TrainingController, job_id: str) -> list[str]:
    events = [json.loads(line) async for line in controller.events("alice", job_id, follow=False)]
    return [event.get("message", "") for event in events]


async def test_jobs_of_a_removed_base_model_wait_until_it_comes_back(world: World) -> None:
    controller = await world.restarted()
    running, waiting = await submit(controller), await submit(controller, "uid-2")
    worker = await controller.enter(BASE)
    assignment = await controller.next_assignment(BASE, worker)
    await redeploy(controller, "another")
    assert (await messages(controller, waiting))[-1] == NOT_DEPLOYED
    await world.train(controller, assignment)  # type: ignore[arg-type]
    assert (await ended(world, controller, running))[-1]["type"] == "stop", "the current job ends"
    assert await controller.next_assignment(BASE, worker) == "leave"
    world.runs[0]()
    assert len(world.runs) == 1, "no run begins for a base model that is not there"
    await redeploy(controller, BASE, "another")
    assert (await messages(controller, waiting))[-1] == f"Base model {BASE} is deployed again"
    assert len(world.runs) == 2
    await world.train(controller, await assigned(controller))
    assert (await ended(world, controller, waiting))[-1]["revision"] == 1


async def test_controller_that_starts_without_the_base_model_keeps_its_jobs(world: World) -> None:
    job_id = await submit(await world.restarted())
    after = TrainingController(
        world.store, world.serving, {}, lambda base_model, on_end: world.runs.append(on_end), 3
    )
    await after.recover()
    assert (await messages(after, job_id))[-1] == NOT_DEPLOYED
    assert len(world.runs) == 1, "the run of the controller before"
    await redeploy(after, BASE)
    await world.train(after, await assigned(after))
    assert (await ended(world, after, job_id))[-1]["type"] == "stop"


async def test_waiting_job_of_a_removed_base_model_can_be_cancelled(world: World) -> None:
    controller = await world.restarted()
    job_id = await submit(controller)
    await redeploy(controller)
    assert (await controller.cancel("alice", job_id)).is_cancelled
    assert (await ended(world, controller, job_id))[-1]["type"] == "error"


async def test_outdated_run_ends_and_the_next_job_gets_another_run(world: World) -> None:
    controller = await world.restarted()
    await submit(controller)
    worker = await controller.enter(BASE)
    await redeploy(controller, BASE, outdated=(BASE,))
    assert await controller.next_assignment(BASE, worker) == "leave"
    world.runs[0]()
    await comes_true(lambda: len(world.runs) == 2)
    assert (await assigned(controller)).attempt == 1


async def test_start_that_ends_because_the_settings_have_changed_is_no_failure(world: World) -> None:
    controller = await world.restarted()
    job_id = await submit(controller)
    await redeploy(controller, BASE, outdated=(BASE,))
    world.runs[0]("ActorDiedError")
    await comes_true(lambda: len(world.runs) == 2)
    assert await messages(controller, job_id) == ["Queued"]


async def test_run_goes_on_if_only_other_settings_change(world: World) -> None:
    controller = await world.restarted()
    first = await submit(controller)
    await redeploy(controller, BASE, max_queued=1)
    await world.train(controller, await assigned(controller))
    assert (await ended(world, controller, first))[-1]["type"] == "stop"
    assert len(world.runs) == 1


async def test_base_model_that_begins_to_share_its_gpu_is_woken_first(world: World) -> None:
    """An earlier controller may have lent the GPU."""
    controller = await world.restarted()
    world.serving.has_gpu = False
    await controller.redeployment.apply({BASE: TrainingSettings(share_gpu=True)}, 3, ())
    await comes_true(lambda: world.serving.has_gpu)


@pytest.mark.parametrize("shared", [True, False])
async def test_run_that_begins_or_ceases_to_share_its_gpu_ends_at_once(world: World, shared: bool) -> None:
    """Its worker has memory that the replicas need, and its job goes on in another run."""
    ended_runs: list[str] = []

    async def end_run(base_model: str) -> None:
        ended_runs.append(base_model)
        world.runs[-1]()

    controller = world.controller(end_run=end_run, share_gpu=shared)
    await controller.recover()
    job_id = await submit(controller)
    former = await assigned(controller)
    await controller.redeployment.apply({BASE: TrainingSettings(share_gpu=not shared)}, 3, (BASE,))
    await comes_true(lambda: len(world.runs) == 2)
    assert ended_runs == [BASE]
    with pytest.raises(JobNotFound):
        await controller.complete(job_id, former.attempt)
    again = await assigned(controller)
    assert (again.job_id, again.attempt) == (job_id, former.attempt + 1)
    await world.train(controller, again)
    assert (await ended(world, controller, job_id))[-1]["type"] == "stop"


async def test_run_of_another_base_model_goes_on_if_one_begins_to_share(world: World) -> None:
    ended_runs: list[str] = []

    async def end_run(base_model: str) -> None:
        ended_runs.append(base_model)

    controller = world.controller(end_run=end_run)
    await submit(controller)
    settings = {BASE: TrainingSettings(), "another": TrainingSettings(share_gpu=True)}
    await controller.redeployment.apply(settings, 3, ())
    settings["another"] = TrainingSettings()
    await controller.redeployment.apply(settings, 3, ("another",))
    worker = await controller.enter(BASE)
    assert not isinstance(await controller.next_assignment(BASE, worker), str)
    assert ended_runs == []


async def test_removed_base_model_whose_replicas_are_gone_holds_nobody_up(world: World) -> None:
    """Its replicas cannot be woken any more, so its current job ends without them."""
    controller = await world.restarted(share_gpu=True)
    await comes_true(lambda: world.serving.has_gpu)
    job_id = await submit(controller)
    assignment = await assigned(controller)
    await controller.borrow_gpu(assignment.job_id, assignment.attempt)
    world.serving.num_failures = 10**9
    training = asyncio.ensure_future(world.train(controller, assignment))
    await comes_true(lambda: world.serving.num_failures < 10**9)
    world.serving.num_failures = 0
    await redeploy(controller)
    await asyncio.wait_for(training, 20)
    assert (await ended(world, controller, job_id))[-1]["type"] == "stop"
    assert await ask(controller) == "leave"
