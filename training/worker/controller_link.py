"""A worker's connection to the controller, through a handle of Ray Serve."""

import math
import time
from collections.abc import Awaitable, Callable
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from ray.exceptions import RayActorError, RayTaskError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from registry.deployment_calls import Answer, DeploymentCalls
from registry.errors import TigerError, Unavailable
from registry.retry import Retry
from training.types import Assignment, Controller, Order, Place, Standing, StepProgress

CALL_TIMEOUT_S = 60.0
LOOK_INTERVAL_S = 2.0
"""The greatest age of an answer with which a job goes on. A job with shorter steps asks only after a step."""


P = ParamSpec("P")
R = TypeVar("R")


class Link(Protocol):
    """The reports to the controller and its answers. `ControllerLink` describes them."""

    def inform(self, assignment: Assignment, message: str) -> None: ...

    def is_cancelled(self) -> bool: ...

    def look(self, assignment: Assignment, place: Place) -> Standing: ...

    def progress(self, assignment: Assignment, step: StepProgress) -> None: ...

    def keep(self, assignment: Assignment, revision: int) -> None: ...

    def borrow_gpu(self, assignment: Assignment) -> None: ...

    def return_gpu(self, assignment: Assignment) -> None: ...

    def paused(self, assignment: Assignment) -> None: ...

    def stopped(self, assignment: Assignment) -> None: ...

    def complete(self, assignment: Assignment) -> None: ...

    def fail(self, assignment: Assignment, code: str, message: str) -> None: ...


class ControllerLink(Link):
    """Calls the controller, synchronously. Each call is repeated while the controller is being replaced."""

    AWAY = (Unavailable, RayActorError, RayServeException, TimeoutError)

    def __init__(
        self,
        base_model: str,
        handle: DeploymentHandle[Any],
        clock: Callable[[], float] = time.monotonic,
        retry: Retry | None = None,
    ) -> None:
        self._retry = retry or Retry(kinds=self.AWAY)
        self._base_model = base_model
        self._controller: DeploymentCalls[Controller] = DeploymentCalls(handle)
        self._clock = clock
        self._name: str | None = None
        self._sent: tuple[Answer[Standing], tuple[str, int, StepProgress]] | None = None
        self._standing = Standing.GOES_ON
        self._heard_at = -math.inf

    def next_assignment(self) -> Order:
        """The next order. It is `leave` if the controller has been replaced since this worker entered."""
        if self._name is None:
            self._name = self._call(Controller.enter, self._base_model)
        order = self._call(Controller.next_assignment, self._base_model, self._name)
        self._standing, self._heard_at = Standing.GOES_ON, -math.inf
        return order

    def inform(self, assignment: Assignment, message: str) -> None:
        self._hear(self._call(Controller.inform, assignment.job_id, assignment.attempt, message))

    def is_cancelled(self) -> bool:
        """Return True if the controller's last answer says that the job is cancelled."""
        self._settle()
        return self._standing is Standing.IS_CANCELLED

    def look(self, assignment: Assignment, place: Place) -> Standing:
        """The controller's answer between two packs. It is asked again only if its last answer is old."""
        self._settle()
        if self._clock() - self._heard_at >= LOOK_INTERVAL_S:
            self._hear(self._call(Controller.look, assignment.job_id, assignment.attempt, place))
        return self._standing

    def keep(self, assignment: Assignment, revision: int) -> None:
        """Report the revision of an epoch, whose manifest was written."""
        self._hear(self._call(Controller.keep, assignment.job_id, assignment.attempt, revision))

    def borrow_gpu(self, assignment: Assignment) -> None:
        """Return when the replicas have left the GPU that they share with this worker."""
        self._call(Controller.borrow_gpu, assignment.job_id, assignment.attempt)

    def return_gpu(self, assignment: Assignment) -> None:
        self._call(Controller.return_gpu, assignment.job_id, assignment.attempt)

    def paused(self, assignment: Assignment) -> None:
        self._call(Controller.paused, assignment.job_id, assignment.attempt)

    def stopped(self, assignment: Assignment) -> None:
        self._call(Controller.stopped, assignment.job_id, assignment.attempt)

    def progress(self, assignment: Assignment, step: StepProgress) -> None:
        """Send a report without waiting for the answer. The next call, of any kind, reads that answer."""
        self._settle()
        report = (assignment.job_id, assignment.attempt, step)
        self._sent = self._controller.call(Controller.progress, *report), report

    def complete(self, assignment: Assignment) -> None:
        self._call(Controller.complete, assignment.job_id, assignment.attempt)

    def fail(self, assignment: Assignment, code: str, message: str) -> None:
        self._call(Controller.fail, assignment.job_id, assignment.attempt, code, message)

    def _settle(self) -> None:
        """Read the answer to the last progress report. A report that did not get through is sent again."""
        if self._sent is None:
            return
        (response, report), self._sent = self._sent, None
        try:
            self._hear(self._result(response))
        except self.AWAY:
            self._hear(self._call(Controller.progress, *report))

    def _hear(self, standing: Standing) -> None:
        self._standing, self._heard_at = standing, self._clock()

    def _call(
        self, method: Callable[Concatenate[Controller, P], Awaitable[R]], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        def once() -> R:
            self._settle()
            return self._result(self._controller.call(method, *args, **kwargs))

        return self._retry.call(once)

    def _result(self, response: Answer[R]) -> R:
        try:
            return response.result(timeout_s=CALL_TIMEOUT_S)
        except RayTaskError as error:
            if isinstance(error.cause, TigerError):
                raise error.cause from None
            raise
