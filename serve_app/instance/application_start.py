"""Waits until the applications of a Serve config are as asked, and reports what happens until then.

/readyz       it is ready, or which resources a base model waits for
Serve         how many replicas run, and why one could not start
"""

import json
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import httpx

from serve_app.instance.processes import InstanceError, Report
from serve_app.instance.serve_changes import part_name
from serve_app.instance.serve_client import ApplicationState, ServeState
from serve_app.instance.start_failure import StartWatch
from serve_app.resource_waits import WAITS_FOR

READY_TIMEOUT_S = 600
LOOK_INTERVAL_S = 0.25


class Readiness(NamedTuple):
    is_ready: bool
    detail: str


def ask_readiness(url: str) -> Readiness:
    """Returns what `/readyz` says."""
    try:
        answer = httpx.get(f"{url}/readyz", timeout=5, trust_env=False)
    except httpx.HTTPError as error:
        return Readiness(False, f"no answer ({type(error).__name__})")
    return Readiness(answer.is_success, answer.text.strip())


class Applications(Protocol):
    """The applications that are waited for. `ServeUpdate` describes the calls."""

    def state(self) -> ServeState: ...

    def missing(self, state: ServeState) -> list[str]: ...

    def give_up(self, name: str) -> None: ...


class ApplicationStart:
    """One start or change of applications. `check_ray` raises InstanceError if Ray has ended.

    With `gives_up`, an application that can never start is deleted. Otherwise Serve tries it some times, and
    its old replicas stay as long as they can.
    """

    def __init__(
        self,
        applications: Applications,
        watch: StartWatch,
        readiness: Callable[[], Readiness],
        check_ray: Callable[[], None],
        report: Report,
        timeout_s: float = READY_TIMEOUT_S,
        gives_up: bool = True,
    ) -> None:
        self._applications = applications
        self._watch = watch
        self._readiness = readiness
        self._check_ray = check_ray
        self._report = report
        self._timeout_s = timeout_s
        self._gives_up = gives_up
        self._reported: dict[str, str] = {}

    def wait(self) -> None:
        """Returns when all applications are as asked, and the API is ready.

        Raises:
            InstanceError: one of them cannot start, or the time is over. The message says why.
        """
        deadline = time.monotonic() + self._timeout_s
        while True:
            self._check_ray()
            state = self._applications.state()
            for name in (missing := self._applications.missing(state)):
                self._end_if_failed(state.application(name))
            readiness = self._readiness()
            if readiness.is_ready and not missing:
                return
            if time.monotonic() > deadline:
                raise InstanceError(self._late([state.application(name) for name in missing], readiness))
            self._report_once("deployment", state.as_line())
            if not readiness.is_ready and WAITS_FOR in readiness.detail:
                self._report_once("waiting", _message(readiness.detail))
            time.sleep(LOOK_INTERVAL_S)

    def _late(self, missing: Sequence[ApplicationState], readiness: Readiness) -> str:
        lines = [f"{part_name(each.name)}: {each.reason()}" for each in missing]
        if not readiness.is_ready:
            lines.append(f"/readyz: {readiness.detail}")
        return "\n".join([f"not ready after {self._timeout_s:g} s (`tiger logs`):", *lines])

    def _end_if_failed(self, application: ApplicationState) -> None:
        failure = self._watch.new_failure(application)
        part = part_name(application.name)
        if failure is not None and not failure.is_final:
            self._report(f"deployment: Serve tries again after {failure.reason}")
        elif failure is not None:
            if self._gives_up and application.status != "DEPLOY_FAILED":
                self._applications.give_up(application.name)
            raise InstanceError(f"{part} cannot start: {failure.reason}")
        if application.status == "DEPLOY_FAILED":
            raise InstanceError(f"{part} cannot be deployed (`tiger logs`):\n{application.reason()}")

    def _report_once(self, subject: str, text: str) -> None:
        if self._reported.get(subject) != text:
            self._reported[subject] = text
            self._report(f"{subject}: {text}")


def _message(detail: str) -> str:
    """Returns the message of an error in the form of the API."""
    try:
        return str(json.loads(detail)["error"]["message"])
    except (ValueError, LookupError, TypeError):
        return detail
