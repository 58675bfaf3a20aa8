"""Writes whose answers are lost while a job is accepted, on a real object store. The test is the worker."""

from collections.abc import Callable
from typing import TypeVar

import pytest

from registry.errors import Unavailable
from registry.store import ObjectStore
from tests.support.training_world import REQUEST, World, assigned, idle, private_model

T = TypeVar("T")


class LostAnswers(ObjectStore):
    """A store whose write number `lost` is done or not, without an answer. After that, `away` reads fail."""

    def __init__(self, store: ObjectStore, lost: int, happens: bool, away: int = 2) -> None:
        super().__init__(store.settings)
        self._lost = lost
        self._happens = happens
        self._away = away
        self._is_lost = False

    def put(self, key: str, body: bytes) -> None:
        self._write(lambda: super(LostAnswers, self).put(key, body))

    def create(self, key: str, body: bytes) -> str:
        if key.startswith("idempotency/"):
            return super().create(key, body)
        return self._write(lambda: super(LostAnswers, self).create(key, body))

    def _write(self, write: Callable[[], T]) -> T:
        self._lost -= 1
        self._is_lost = self._lost == 0
        if self._is_lost and not self._happens:
            raise Unavailable("storage cannot be reached")
        written = write()
        if self._is_lost:
            raise Unavailable("storage cannot be reached")
        return written

    def get_many(self, keys):  # type: ignore[no-untyped-def]
        if self._is_lost and self._away:
            self._away -= 1
            raise Unavailable("storage cannot be reached")
        return super().get_many(keys)


async def test_a_job_whose_acceptance_was_not_heard_of_runs(world: World) -> None:
    controller = world.controller(LostAnswers(world.store, lost=3, happens=True))
    with pytest.raises(Unavailable):
        await controller.submit("alice", private_model("uid-1"), REQUEST)
    assignment = await assigned(controller)
    await world.train(controller, assignment)
    assert world.jobs_of_revisions("uid-1") == [assignment.job_id]


@pytest.mark.parametrize("happens", [True, False])
@pytest.mark.parametrize("lost", [1, 2, 3])
async def test_a_repeat_with_the_same_key_is_the_one_job(world: World, lost: int, happens: bool) -> None:
    controller = world.controller(LostAnswers(world.store, lost, happens, away=0))
    with pytest.raises(Unavailable):
        await controller.submit("alice", private_model("uid-1"), REQUEST, "key")
    record = await controller.submit("alice", private_model("uid-1"), REQUEST, "key")
    other = await controller.submit("bob", private_model("uid-2"), REQUEST)
    for job_id in (record.id, other.id):
        assignment = await assigned(controller)
        assert assignment.job_id == job_id
        await world.train(controller, assignment)
    assert world.jobs_of_revisions("uid-1") == [record.id]
    assert not await controller.is_training("uid-1")


async def test_a_job_that_was_not_accepted_counts_no_more(world: World) -> None:
    controller = world.controller(LostAnswers(world.store, lost=3, happens=False))
    with pytest.raises(Unavailable):
        await controller.submit("alice", private_model("uid-1"), REQUEST)
    accepted = await controller.submit("alice", private_model("uid-2"), REQUEST)
    assert (await assigned(controller)).job_id == accepted.id
    await idle(controller, "uid-1")  # what became of it is found out beside the other one's acceptance
