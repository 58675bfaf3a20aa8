"""The list of a user's jobs: its order, its pages and its filters."""

from typing import Any

import pytest

from registry.errors import JobNotFound
from registry.records import JobStatus
from tests.support.training_world import World, assigned, ended, submit
from training.controller.controller import TrainingController


async def listed(controller: TrainingController, *arguments: Any) -> list[str]:
    return [record.id for record in await controller.list_jobs("alice", *arguments)]


async def test_jobs_are_listed_newest_first_in_pages(world: World) -> None:
    controller = world.controller()
    accepted = [await submit(controller, uid) for uid in ("uid-1", "uid-2", "uid-3")]
    newest = accepted[::-1]
    assert await listed(controller, None, None, None, 10) == newest
    assert await listed(controller, None, None, None, 2) == newest[:2]
    assert await listed(controller, None, None, newest[1], 2) == newest[2:]
    assert await listed(controller, None, None, newest[2], 2) == []


async def test_jobs_are_listed_by_model_and_status(world: World) -> None:
    controller = world.controller()
    one, two, other = [await submit(controller, uid) for uid in ("uid-1", "uid-1", "uid-2")]
    await world.train(controller, await assigned(controller))
    await ended(world, controller, one)
    assert await listed(controller, "id-of-uid-1", None, None, 10) == [two, one]
    assert await listed(controller, None, JobStatus.SUCCEEDED, None, 10) == [one]
    assert await listed(controller, "id-of-uid-1", JobStatus.QUEUED, None, 10) == [two]
    assert await listed(controller, None, JobStatus.QUEUED, None, 1) == [other]
    assert await listed(controller, "id-of-uid-1", None, None, 1) == [two]
    assert await listed(controller, "nothing", None, None, 10) == []


async def test_malformed_after_is_not_found(world: World) -> None:
    with pytest.raises(JobNotFound):
        await world.controller().list_jobs("alice", None, None, "../bob", 10)
