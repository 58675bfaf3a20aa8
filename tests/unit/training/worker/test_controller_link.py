"""A worker's calls to a controller that is away for a while, with a fake handle."""

from collections.abc import Callable
from typing import Any

import pytest
from ray.exceptions import RayActorError

from registry.errors import JobNotFound, Unavailable
from registry.retry import Retry
from tests.support.queueing import Clock
from training.types import Assignment, Place, Standing, StepProgress
from training.worker.controller_link import LOOK_INTERVAL_S, ControllerLink


def built(kind: Any, **fields: Any) -> Any:
    """A record with no other fields than these."""
    return kind.model_construct(**fields)


ASSIGNMENT = built(Assignment, job_id="job-1", attempt=2)
STEP = built(StepProgress, step=1)
REPORT = ("progress", "job-1", 2, STEP)
PLACE = Place(step=1, steps=5, share=0.5)
LOOK = ("look", "job-1", 2, PLACE)


class Handle:
    """Answers calls in turn: an exception is raised, anything else is the result."""

    def __init__(self, *answers: Any) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self._answers = list(answers)

    def __getattr__(self, method: str) -> "Call":
        return Call(lambda *arguments: self.calls.append((method, *arguments)), self._answers)


class Call:
    def __init__(self, note: Callable[..., None], answers: list[Any]) -> None:
        self._note = note
        self._answers = answers

    def remote(self, *arguments: Any) -> "Response":
        self._note(*arguments)
        return Response(self._answers.pop(0))


class Response:
    def __init__(self, answer: Any) -> None:
        self._answer = answer

    def result(self, timeout_s: float) -> Any:
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer


def link(*answers: Any, clock: Clock | None = None) -> tuple[ControllerLink, Handle]:
    handle: Any = Handle(*answers)
    at_once = Retry(first_pause_s=0, longest_pause_s=0, kinds=ControllerLink.AWAY)
    return ControllerLink("base", handle, clock or Clock(), at_once), handle


def test_worker_enters_once_and_asks_in_its_name() -> None:
    controller, handle = link(RayActorError(), "me", Unavailable("storage"), "wait", "leave")
    assert [controller.next_assignment(), controller.next_assignment()] == ["wait", "leave"]
    asked = ("next_assignment", "base", "me")
    assert handle.calls == [("enter", "base"), ("enter", "base"), asked, asked, asked]


def test_progress_is_not_waited_for_and_its_answer_is_seen_later() -> None:
    controller, handle = link(Standing.IS_CANCELLED)
    controller.progress(ASSIGNMENT, STEP)
    assert handle.calls == [REPORT]
    assert controller.is_cancelled()


@pytest.mark.parametrize("trouble", [RayActorError(), TimeoutError(), Unavailable("storage")])
def test_progress_that_did_not_get_through_is_reported_again(trouble: Exception) -> None:
    """It is no reason to give up the training."""
    controller, handle = link(trouble, trouble, Standing.GOES_ON)
    controller.progress(ASSIGNMENT, STEP)
    assert not controller.is_cancelled()
    assert handle.calls == [REPORT] * 3


def test_attempt_that_was_given_up_learns_of_it() -> None:
    controller, _ = link(RayActorError(), JobNotFound("given up"))
    controller.progress(ASSIGNMENT, STEP)
    with pytest.raises(JobNotFound):
        controller.is_cancelled()


def test_between_packs_the_controller_is_asked_when_its_last_answer_is_old() -> None:
    clock = Clock()
    controller, handle = link(Standing.GOES_ON, Standing.GIVES_WAY, clock=clock)
    controller.progress(ASSIGNMENT, STEP)
    for _ in range(100):
        assert controller.look(ASSIGNMENT, PLACE) is Standing.GOES_ON
    assert handle.calls == [REPORT], "the answer to the progress is enough"
    clock.now_s += LOOK_INTERVAL_S
    assert controller.look(ASSIGNMENT, PLACE) is Standing.GIVES_WAY
    assert handle.calls == [REPORT, LOOK]


def test_what_was_said_of_one_job_is_not_said_of_the_next() -> None:
    controller, handle = link(Standing.GIVES_WAY, "me", "wait", Standing.GOES_ON)
    assert controller.look(ASSIGNMENT, PLACE) is Standing.GIVES_WAY
    controller.next_assignment()
    assert controller.look(ASSIGNMENT, PLACE) is Standing.GOES_ON
    assert handle.calls[-1] == LOOK
