"""The events of a job, for a client that follows it and for one that asks once."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from registry.jobs import Jobs
from tests.support.training_world import World, assigned, ended, progress, submit
from tests.support.waiting import comes_true
from training.types import StepProgress


async def next_line(lines: AsyncIterator[str]) -> dict[str, Any]:
    return json.loads(await asyncio.wait_for(anext(lines), 10))


async def test_follower_sees_the_past_and_then_what_comes(world: World) -> None:
    controller = world.controller()
    job_id = await submit(controller)
    assignment = await assigned(controller)
    await controller.progress(job_id, 1, progress(1))
    lines = controller.events("alice", job_id, follow=True)
    assert await next_line(lines) == {"type": "info", "message": "Queued"}
    assert await next_line(lines) == {"type": "progress", **progress(1).shown()}
    waiting = asyncio.ensure_future(next_line(lines))
    await asyncio.sleep(0)
    assert not waiting.done()
    await controller.progress(job_id, 1, progress(2))
    assert (await waiting)["step"] == 2
    await world.train(controller, assignment)
    rest = [json.loads(line) async for line in lines]
    assert rest[-1]["type"] == "stop"
    assert rest == (await ended(world, controller, job_id))[-len(rest) :]


async def test_progress_has_the_numbers_of_its_method_alone(world: World) -> None:
    controller = world.controller()
    job_id = await submit(controller)
    await assigned(controller)
    numbers = {"step": 1, "steps": 5, "epoch": 0.2, "loss": 0.7, "token_accuracy": 0.5}
    numbers |= {"grad_norm": 1.0, "learning_rate": 1e-4, "seconds": 0.1}
    await controller.progress(job_id, 1, StepProgress.model_validate(numbers))
    lines = [json.loads(line) async for line in controller.events("alice", job_id, follow=False)]
    assert lines[-1] == {"type": "progress", **numbers}


async def test_events_without_follow_end_at_the_present(world: World) -> None:
    controller = world.controller()
    job_id = await submit(controller)
    lines = [line async for line in controller.events("alice", job_id, follow=False)]
    assert [json.loads(line)["message"] for line in lines] == ["Queued"]


async def test_progress_is_shown_and_saved(world: World) -> None:
    controller = world.controller()
    job_id = await submit(controller)
    await assigned(controller)
    await controller.progress(job_id, 1, progress(3))
    assert (await controller.job("alice", job_id)).step == 3


async def test_progress_is_in_the_bucket_soon(world: World) -> None:
    """The last of several steps that come close to each other is saved, though no other one follows."""
    controller = world.controller()
    job_id = await submit(controller)
    await assigned(controller)
    for step in (1, 2, 3):
        await controller.progress(job_id, 1, progress(step))
    jobs = Jobs(world.store)
    await comes_true(lambda: jobs.load("alice", job_id).step == 3)
    assert '"step":3' in jobs.load_events("alice", job_id)[-1]
