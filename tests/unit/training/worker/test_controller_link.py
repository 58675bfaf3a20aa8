"""A worker's calls to a controller that is away for a while, with a fake handle."""

import itertools
import threading
from collections.abc import Callable
from typing import Any

import pytest
from ray.exceptions import RayActorError

from registry.errors import JobNotFound, Unavailable
from registry.retry import Retry
from tests.support.queueing import Clock
from training.types import Assignment, Instruction, Order, Place, Standing, StepProgress
from training.worker.controller_link import LOOK_INTERVAL_S, ControllerLink


def built(kind: Any, **fields: Any) -> Any:
    """A record that has no other fields than these."""
    return kind.model_construct(**fields)


ASSIGNMENT = built(Assignment, job_id="job-1", attempt=2)
STEP = built(StepProgress, step=1)
PLACE = Place(step=1, steps=5, share=0.5)


class Controller:
    """A fake controller. It raises the errors of `troubles`, one for each call, before it answers."""

    def __init__(self, *troubles: Exception) -> None:
        self.troubles = list(troubles)
        self.standing = Standing.GOES_ON
        self.steps: list[tuple[str, int, StepProgress]] = []
        self._names = itertools.count(1)
        self._newest = ""

    def enter(self, base_model: str) -> str:
        self._newest = f"{base_model}-{next(self._names)}"
        return self._newest

    def next_assignment(self, base_model: str, worker: str) -> Order:
        return Instruction.WAIT if worker == self._newest else Instruction.LEAVE

    def progress(self, job_id: str, attempt: int, step: StepProgress) -> Standing:
        self.steps.append((job_id, attempt, step))
        return self.standing

    def keep(self, job_id: str, attempt: int, revision: int) -> Standing:
        assert (job_id, attempt, revision) == ("job-1", 2, 3)
        return self.standing

    def look(self, job_id: str, attempt: int, place: Place) -> Standing:
        assert (job_id, attempt, place) == ("job-1", 2, PLACE)
        return self.standing


class Handle:
    """A handle of the controller, as Ray Serve has it. While `may_answer` is not set, no result is there."""

    def __init__(self, controller: Controller) -> None:
        self.may_answer = threading.Event()
        self.may_answer.set()
        self._controller = controller

    def __getattr__(self, method: str) -> "Method":
        return Method(self, self._controller, getattr(self._controller, method))


class Method:
    def __init__(self, handle: Handle, controller: Controller, method: Callable[..., Any]) -> None:
        self._handle = handle
        self._controller = controller
        self._method = method

    def remote(self, *arguments: Any) -> "Response":
        if self._controller.troubles:
            return Response(self._handle, self._controller.troubles.pop(0))
        return Response(self._handle, self._method(*arguments))


class Response:
    def __init__(self, handle: Handle, answer: Any) -> None:
        self._handle = handle
        self._answer = answer

    def result(self, timeout_s: float) -> Any:
        if not self._handle.may_answer.is_set():
            raise AssertionError("the worker waits for an answer")
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer


def link_to(controller: Controller, clock: Clock | None = None) -> tuple[ControllerLink, Handle]:
    handle: Any = Handle(controller)
    at_once = Retry(first_pause_s=0, longest_pause_s=0, kinds=ControllerLink.AWAY)
    return ControllerLink("base", handle, clock or Clock(), at_once), handle


def test_worker_enters_once_and_asks_in_its_name() -> None:
    controller = Controller(RayActorError())
    link, _ = link_to(controller)
    assert link.next_assignment() is Instruction.WAIT
    controller.troubles = [Unavailable("storage")]
    assert link.next_assignment() is Instruction.WAIT
    controller.enter("base")
    assert link.next_assignment() is Instruction.LEAVE, "another worker has taken its place"


def test_progress_is_not_waited_for_and_its_answer_is_seen_later() -> None:
    controller = Controller()
    link, handle = link_to(controller)
    controller.standing = Standing.IS_CANCELLED
    handle.may_answer.clear()
    link.progress(ASSIGNMENT, STEP)
    handle.may_answer.set()
    assert link.is_cancelled()
    assert controller.steps == [("job-1", 2, STEP)]


@pytest.mark.parametrize("trouble", [RayActorError(), TimeoutError(), Unavailable("storage")])
def test_progress_that_did_not_get_through_is_reported_again(trouble: Exception) -> None:
    """A report that does not get through is no reason to give up the training."""
    controller = Controller(trouble, trouble)
    link, _ = link_to(controller)
    link.progress(ASSIGNMENT, STEP)
    assert controller.steps == []
    assert not link.is_cancelled()
    assert controller.steps == [("job-1", 2, STEP)]


def test_revision_of_an_epoch_is_reported_until_the_controller_hears_of_it() -> None:
    controller = Controller(RayActorError(), Unavailable("storage"))
    link, _ = link_to(controller)
    controller.standing = Standing.IS_CANCELLED
    link.keep(ASSIGNMENT, 3)
    assert link.is_cancelled(), "the answer says what the job has to do"
    controller.troubles = [JobNotFound("given up")]
    with pytest.raises(JobNotFound):
        link.keep(ASSIGNMENT, 3)


def test_attempt_that_was_given_up_learns_of_it() -> None:
    link, _ = link_to(Controller(RayActorError(), JobNotFound("given up")))
    link.progress(ASSIGNMENT, STEP)
    with pytest.raises(JobNotFound):
        link.is_cancelled()


def test_between_packs_the_controller_is_asked_when_its_last_answer_is_old() -> None:
    clock = Clock()
    controller = Controller()
    link, _ = link_to(controller, clock)
    link.progress(ASSIGNMENT, STEP)
    controller.standing = Standing.GIVES_WAY
    for _ in range(100):
        assert link.look(ASSIGNMENT, PLACE) is Standing.GOES_ON, "the answer to the progress is enough"
    clock.now_s += LOOK_INTERVAL_S
    assert link.look(ASSIGNMENT, PLACE) is Standing.GIVES_WAY


def test_what_was_said_of_one_job_is_not_said_of_the_next() -> None:
    controller = Controller()
    link, _ = link_to(controller)
    controller.standing = Standing.GIVES_WAY
    assert link.look(ASSIGNMENT, PLACE) is Standing.GIVES_WAY
    link.next_assignment()
    controller.standing = Standing.GOES_ON
    assert link.look(ASSIGNMENT, PLACE) is Standing.GOES_ON
