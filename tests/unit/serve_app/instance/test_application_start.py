"""The wait for an application, with states of Serve and answers of `/readyz` that a test has written down."""

from collections.abc import Callable
from pathlib import Path

import pytest

from serve_app.instance.application_start import ApplicationStart, Readiness
from serve_app.instance.processes import InstanceError
from serve_app.instance.serve_client import ServeState
from serve_app.instance.start_failure import StartWatch
from tests.support.serve_states import application

READY = Readiness(True, '{"status":"ready"}')
NO_ANSWER = Readiness(False, "no answer (ConnectError)")
MESSAGE = "base model b has no replica that answers: it waits for 1 GPU (0 of 1 free)"
WAITING = Readiness(False, f'{{"error":{{"message":"{MESSAGE}"}}}}')


NAME = "base-model-b"
DEPLOYMENT = f"Deployment:{NAME}"


def state(status: str, message: str = "", replicas: int = 0) -> ServeState:
    return ServeState(applications={NAME: application(NAME, status, None, message, replicas)})


class FakeApplications:
    """Serve, with one application that has these states, one after another. It is missing until it runs."""

    def __init__(self, *states: ServeState) -> None:
        self._states = list(states)
        self.given_up: list[str] = []

    def state(self) -> ServeState:
        return self._states.pop(0) if len(self._states) > 1 else self._states[0]

    def missing(self, state: ServeState) -> list[str]:
        return [name for name, each in state.applications.items() if each.status != "RUNNING"]

    def give_up(self, name: str) -> None:
        self.given_up.append(name)


Start = Callable[..., tuple[ApplicationStart, list[str]]]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """A function that returns a start, and the lines that it reports."""

    def make(
        applications: FakeApplications, *answers: Readiness, timeout_s: float = 60, gives_up: bool = True
    ) -> tuple[ApplicationStart, list[str]]:
        lines: list[str] = []
        remaining = list(answers)

        def readiness() -> Readiness:
            return remaining.pop(0) if len(remaining) > 1 else remaining[0]

        watch = StartWatch(tmp_path)
        wait = ApplicationStart(
            applications, watch, readiness, lambda: None, lines.append, timeout_s, gives_up
        )
        return wait, lines

    return make


def test_every_change_is_reported_once(start: Start) -> None:
    states = FakeApplications(state("DEPLOYING"), state("DEPLOYING"), state("RUNNING", replicas=1))
    wait, lines = start(states, NO_ANSWER, NO_ANSWER, NO_ANSWER, READY)
    wait.wait()
    assert lines == [f"deployment: {DEPLOYMENT} 0/1", f"deployment: {DEPLOYMENT} 1/1"]


def test_api_that_answers_is_not_enough_while_an_application_is_missing(start: Start) -> None:
    """The ingress is ready for the other base models."""
    wait, lines = start(FakeApplications(state("DEPLOYING"), state("RUNNING", replicas=1)), READY)
    wait.wait()
    assert lines == [f"deployment: {DEPLOYMENT} 0/1"]


def test_what_a_replica_waits_for_is_reported(start: Start) -> None:
    states = FakeApplications(state("DEPLOYING"), state("DEPLOYING"), state("RUNNING"))
    wait, lines = start(states, WAITING, WAITING, READY)
    wait.wait()
    assert lines == [f"deployment: {DEPLOYMENT} 0/1", f"waiting: {MESSAGE}"]


FINAL = "The deployment failed to start 1 times:\nValueError: max_model_len is too large"


def test_start_that_can_never_succeed_is_ended(start: Start) -> None:
    applications = FakeApplications(state("DEPLOYING", FINAL))
    wait, _ = start(applications, NO_ANSWER)
    with pytest.raises(
        InstanceError, match=rf"base model b cannot start: {DEPLOYMENT}: ValueError: max_model"
    ):
        wait.wait()
    assert applications.given_up == [NAME], "Serve would try again"


def test_change_that_can_never_succeed_leaves_the_old_replicas(start: Start) -> None:
    applications = FakeApplications(state("DEPLOYING", FINAL))
    wait, _ = start(applications, READY, gives_up=False)
    with pytest.raises(InstanceError, match="cannot start"):
        wait.wait()
    assert applications.given_up == []


def test_failed_deployment_has_the_messages_of_serve(start: Start) -> None:
    wait, _ = start(FakeApplications(state("DEPLOY_FAILED", "no luck")), NO_ANSWER)
    with pytest.raises(InstanceError, match=r"(?s)base model b cannot be deployed.*no luck"):
        wait.wait()


def test_start_that_takes_too_long_ends_with_what_is_missing(start: Start) -> None:
    wait, _ = start(FakeApplications(state("DEPLOYING")), WAITING, timeout_s=0)
    with pytest.raises(InstanceError, match=r"(?s)base model b: status DEPLOYING.*0 of 1 free"):
        wait.wait()
