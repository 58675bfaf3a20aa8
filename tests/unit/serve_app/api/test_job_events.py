"""A follower of a job while trainers come and go. The trainers are played by the test."""

from typing import Any, Self

import pytest
from ray.exceptions import RayActorError

from registry.errors import JobNotFound, Superseded, Unavailable
from serve_app.api.job_events import followed

QUEUED = '{"type":"info","message":"Queued"}\n'
STEP = '{"type":"progress","step":1}\n'
STOP = '{"type":"stop"}\n'


class Answer:
    """The answer to one call. It gives its lines and raises its errors in this order."""

    def __init__(self, *items: Any) -> None:
        self._items = iter(items)
        self.is_cancelled = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        for item in self._items:
            if isinstance(item, Exception):
                raise item
            return str(item)
        raise StopAsyncIteration

    def cancel(self) -> None:
        self.is_cancelled = True


class Clock:
    """A clock that moves on by a second at each look."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        self.now_s += 1
        return self.now_s


async def lines_of(*answers: Answer, away_s: float = 1000.0) -> list[str]:
    following = iter(answers)
    lines = [line async for line in followed(lambda: next(following), away_s, Clock())]
    assert all(answer.is_cancelled for answer in answers)
    return lines


async def test_each_line_comes_once_whatever_dies() -> None:
    trainers = (
        Answer(QUEUED, STEP, RayActorError()),
        Answer(RayActorError()),
        Answer(QUEUED, RayActorError()),
        Answer(QUEUED, STEP, STOP),
    )
    assert await lines_of(*trainers) == [QUEUED, STEP, STOP]


async def test_the_last_line_ends_it_though_there_were_more_before() -> None:
    assert await lines_of(Answer(QUEUED, STEP, RayActorError()), Answer(STOP)) == [QUEUED, STEP, STOP]


async def test_without_an_end_it_is_as_long_as_what_there_is() -> None:
    assert await lines_of(Answer(QUEUED, STEP)) == [QUEUED, STEP]


async def test_next_trainer_of_the_cluster_is_asked_if_the_former_one_was_superseded() -> None:
    trainers = Answer(QUEUED, Superseded("a later one leads")), Answer(QUEUED, STEP, STOP)
    assert await lines_of(*trainers) == [QUEUED, STEP, STOP]


async def test_superseded_cluster_sends_its_followers_away() -> None:
    refusals = [Answer(QUEUED, Superseded("a later one leads")) for _ in range(2)]
    with pytest.raises(Superseded):
        await lines_of(*refusals)
    assert all(answer.is_cancelled for answer in refusals)


async def test_a_job_that_is_not_there_is_an_error() -> None:
    with pytest.raises(JobNotFound):
        await lines_of(Answer(JobNotFound("there is no such job")))


async def test_a_trainer_that_stays_away_is_given_up() -> None:
    away = [Answer(RayActorError()) for _ in range(50)]
    with pytest.raises(Unavailable):
        await lines_of(Answer(QUEUED, RayActorError()), *away, away_s=5.0)
    assert 1 < sum(answer.is_cancelled for answer in away) < 50
