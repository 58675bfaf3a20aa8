"""A follower of a job while trainers come and go. The trainers are played by the test."""

from typing import Any, Self

import pytest
from ray.exceptions import RayActorError
from ray.serve.exceptions import DeploymentUnavailableError

from registry.errors import JobNotFound, Superseded, Unavailable
from serve_app.api.job_events import followed
from tests.support.ray_private import DeploymentID
from training.event_line import EventLine

QUEUED = EventLine('{"type":"info","message":"Queued"}\n', 1)
STEP = EventLine('{"type":"progress","step":1}\n', 2)
MENTION = EventLine('{"type":"info","message":"Step 2 of 5: 50%"}\n', 2)
LATER_MENTION = EventLine('{"type":"info","message":"Step 2 of 5: 75%"}\n', 2)
STOP = EventLine('{"type":"stop"}\n', 3)
PAUSE = EventLine("", 2)


class Answer:
    """The answer to one call. It gives its lines and raises its errors in this order."""

    def __init__(self, *items: Any) -> None:
        self._items = iter(items)
        self.is_cancelled = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> EventLine:
        for item in self._items:
            if isinstance(item, Exception):
                raise item
            assert isinstance(item, EventLine)
            return item
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


async def lines_of(
    *answers: Answer, away_s: float = 1000.0, superseded_s: float = 1000.0, asked: list[int] | None = None
) -> list[str]:
    """The lines that a client gets from these answers. `asked` gets the numbers of events that it has had."""
    following = iter(answers)
    asked = [] if asked is None else asked

    def ask(after: int) -> Answer:
        asked.append(after)
        return next(following)

    lines = [line async for line in followed(ask, away_s, superseded_s, Clock(), pause_s=0)]
    assert all(answer.is_cancelled for answer in answers)
    return lines


async def test_each_line_comes_once_whatever_dies() -> None:
    asked: list[int] = []
    trainers = (
        Answer(QUEUED, STEP, RayActorError()),
        Answer(RayActorError()),
        Answer(DeploymentUnavailableError(DeploymentID(name="Trainer"))),
        Answer(PAUSE),
        Answer(STOP),
    )
    assert await lines_of(*trainers, asked=asked) == [QUEUED, STEP, STOP]
    assert asked == [0, 2, 2, 2, 2]


async def test_call_that_pauses_is_followed_by_one_for_what_comes_after() -> None:
    asked: list[int] = []
    trainers = Answer(QUEUED, STEP, MENTION, PAUSE), Answer(PAUSE), Answer(LATER_MENTION, STOP)
    assert await lines_of(*trainers, asked=asked) == [QUEUED, STEP, MENTION, LATER_MENTION, STOP]
    assert asked == [0, 2, 2], "what is only mentioned is no event"


async def test_latest_mention_is_not_repeated_by_each_call() -> None:
    """A Trainer begins each call with it, and a step may be longer than several calls."""
    trainers = Answer(STEP, MENTION, PAUSE), Answer(MENTION, PAUSE), Answer(MENTION, PAUSE), Answer(STOP)
    assert await lines_of(*trainers) == [STEP, MENTION, STOP]


async def test_event_that_says_the_same_as_the_one_before_is_shown() -> None:
    again = EventLine(QUEUED, 2)
    assert await lines_of(Answer(QUEUED, RayActorError()), Answer(again, STOP)) == [QUEUED, again, STOP]


async def test_the_last_line_ends_it_though_there_were_more_before() -> None:
    assert await lines_of(Answer(QUEUED, STEP, RayActorError()), Answer(STOP)) == [QUEUED, STEP, STOP]


async def test_without_an_end_it_is_as_long_as_what_there_is() -> None:
    assert await lines_of(Answer(QUEUED, STEP)) == [QUEUED, STEP]


async def test_next_trainer_of_the_cluster_is_asked_if_the_former_one_was_superseded() -> None:
    refusals = [Answer(Superseded("a later one leads")) for _ in range(5)]
    trainers = Answer(QUEUED, Superseded("a later one leads")), *refusals, Answer(STEP, STOP)
    assert await lines_of(*trainers) == [QUEUED, STEP, STOP]


async def test_superseded_cluster_sends_its_followers_away() -> None:
    refusals = [Answer(Superseded("a later one leads")) for _ in range(50)]
    with pytest.raises(Superseded):
        await lines_of(*refusals, superseded_s=5.0)
    assert 1 < sum(answer.is_cancelled for answer in refusals) < 50


async def test_trainer_may_be_superseded_after_it_was_away_for_longer() -> None:
    """Only the time since the first refusal counts, and not the time without a Trainer."""
    away = [Answer(RayActorError()) for _ in range(20)]
    refusals = [Answer(Superseded("a later one leads")) for _ in range(3)]
    trainers = Answer(QUEUED, RayActorError()), *away, *refusals, Answer(STEP, STOP)
    assert await lines_of(*trainers, away_s=1000.0, superseded_s=5.0) == [QUEUED, STEP, STOP]


async def test_trainer_may_be_away_after_it_was_superseded_for_longer() -> None:
    refusals = [Answer(Superseded("a later one leads")) for _ in range(20)]
    away = [Answer(RayActorError()) for _ in range(3)]
    assert await lines_of(*refusals, *away, Answer(QUEUED, STOP), away_s=5.0) == [QUEUED, STOP]


async def test_follower_of_trainers_that_are_away_and_superseded_in_turns_is_sent_away() -> None:
    pairs = [Answer(error) for _ in range(50) for error in (RayActorError(), Superseded("a later one leads"))]
    with pytest.raises(Superseded):
        await lines_of(*pairs, superseded_s=9.0)


async def test_a_job_that_is_not_there_is_an_error() -> None:
    with pytest.raises(JobNotFound):
        await lines_of(Answer(JobNotFound("there is no such job")))


async def test_a_trainer_that_stays_away_is_given_up() -> None:
    away = [Answer(RayActorError()) for _ in range(50)]
    with pytest.raises(Unavailable):
        await lines_of(Answer(QUEUED, RayActorError()), *away, away_s=5.0)
    assert 1 < sum(answer.is_cancelled for answer in away) < 50
