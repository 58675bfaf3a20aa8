"""The events of a job, for a client that follows it and for one that asks once."""

import asyncio
import json
import pickle
from collections.abc import AsyncIterator
from typing import Any

from registry.jobs import Jobs
from tests.support.training_world import World, assigned, ended, progress, submit
from tests.support.waiting import comes_true
from training.controller.controller import TrainingController
from training.event_line import EventLine
from training.types import Place, StepProgress


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


async def lines_after(controller: TrainingController, job_id: str, after: int) -> list[EventLine]:
    return [line async for line in controller.events("alice", job_id, True, after, for_s=0.01)]


async def test_call_for_some_time_ends_with_a_pause_and_the_next_one_goes_on(world: World) -> None:
    """A follower must not keep the Trainer from its shutdown, nor see anything twice."""
    controller = world.controller()
    job_id = await submit(controller)
    assignment = await assigned(controller)
    await controller.progress(job_id, 1, progress(1))
    await controller.look(job_id, 1, Place(step=1, steps=5, share=0.5))
    *lines, mention, pause = await asyncio.wait_for(lines_after(controller, job_id, 0), 10)
    assert [line.num_events for line in lines] == list(range(1, len(lines) + 1))
    assert "50%" in mention and pause.is_pause
    assert mention.num_events == pause.num_events == len(lines)
    await controller.progress(job_id, 1, progress(2))
    following, pause = await lines_after(controller, job_id, pause.num_events)
    assert json.loads(following)["step"] == 2 and pause.is_pause
    await world.train(controller, assignment)
    rest = [json.loads(line) async for line in controller.events("alice", job_id, True, pause.num_events)]
    assert rest[0]["type"] == "info" and rest[-1]["type"] == "stop"
    assert [json.loads(line) for line in (*lines, following)] + rest == await ended(world, controller, job_id)


async def test_last_event_comes_though_a_former_trainer_has_shown_more(world: World) -> None:
    controller = world.controller()
    job_id = await submit(controller)
    following = asyncio.ensure_future(lines_after(controller, job_id, 100))
    (pause,) = await asyncio.wait_for(following, 10)
    assert pause.is_pause
    await world.train(controller, await assigned(controller))
    events = await ended(world, controller, job_id)
    (last,) = await lines_after(controller, job_id, 100)
    assert json.loads(last) == events[-1]


async def test_follower_of_a_job_that_is_not_taken_up_yet_asks_again(world: World) -> None:
    """A former Trainer accepted it late. The stream must not end as if the training had."""
    controller = await world.restarted()
    job_id = await submit(world.controller())
    (pause,) = await lines_after(controller, job_id, 2)
    assert pause.is_pause and pause.num_events == 2
    await controller.recover()
    *lines, pause = await lines_after(controller, job_id, 0)
    assert lines and pause.is_pause


def test_line_keeps_its_number_on_its_way() -> None:
    line = pickle.loads(pickle.dumps(EventLine("{}", 7)))
    assert (line, line.num_events, line.is_pause) == ("{}", 7, False)
