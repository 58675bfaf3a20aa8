"""Waits until the application of an instance is ready, and reports what happens until then.

/readyz       it is ready, or which resources a base model waits for
Serve         how many replicas run, and why one could not start
"""

import json
import time
from collections.abc import Callable
from typing import NamedTuple, Protocol

import httpx

from serve_app.deployment_options import APPLICATION
from serve_app.instance.processes import InstanceError, Report
from serve_app.instance.serve_client import ApplicationState
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
    """The calls of Serve that are used here. `ServeClient` describes them."""

    def state(self, name: str) -> ApplicationState: ...

    def delete_all(self) -> None: ...


class ApplicationStart:
    """One start of the application. `check_ray` raises InstanceError if Ray has ended."""

    def __init__(
        self,
        applications: Applications,
        watch: StartWatch,
        readiness: Callable[[], Readiness],
        check_ray: Callable[[], None],
        report: Report,
        timeout_s: float = READY_TIMEOUT_S,
    ) -> None:
        self._applications = applications
        self._watch = watch
        self._readiness = readiness
        self._check_ray = check_ray
        self._report = report
        self._timeout_s = timeout_s
        self._reported: dict[str, str] = {}

    def wait(self) -> None:
        """Returns when the application is ready. Raises: InstanceError, which says why it will not be."""
        deadline = time.monotonic() + self._timeout_s
        while not (readiness := self._readiness()).is_ready:
            self._check_ray()
            application = self._applications.state(APPLICATION)
            self._end_if_failed(application)
            if time.monotonic() > deadline:
                reason = f"{application.reason()}\n/readyz: {readiness.detail}"
                raise InstanceError(f"not ready after {self._timeout_s:g} s (`tiger logs`):\n{reason}")
            self._report_once("deployment", application.as_line())
            if WAITS_FOR in readiness.detail:
                self._report_once("waiting", _message(readiness.detail))
            time.sleep(LOOK_INTERVAL_S)

    def _end_if_failed(self, application: ApplicationState) -> None:
        failure = self._watch.new_failure(application)
        if failure is not None and not failure.is_final:
            self._report(f"deployment: Serve tries again after {failure.reason}")
        elif failure is not None:
            if application.status != "DEPLOY_FAILED":
                self._applications.delete_all()  # otherwise Serve would try again
            raise InstanceError(f"the application cannot start: {failure.reason}")
        if application.status == "DEPLOY_FAILED":
            reason = application.reason()
            raise InstanceError(f"the application cannot be deployed (`tiger logs`):\n{reason}")

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
