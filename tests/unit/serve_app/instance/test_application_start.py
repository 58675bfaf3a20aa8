"""The wait for an application, with states of Serve and answers of `/readyz` that a test has written down."""

from collections.abc import Callable
from pathlib import Path

import pytest

from serve_app.instance.application_start import ApplicationStart, Readiness
from serve_app.instance.processes import InstanceError
from serve_app.instance.serve_client import ApplicationState, DeploymentState
from serve_app.instance.start_failure import StartWatch

READY = Readiness(True, '{"status":"ready"}')
NO_ANSWER = Readiness(False, "no answer (ConnectError)")
MESSAGE = "base model b has no replica that answers: it waits for 1 GPU (0 of 1 free)"
WAITING = Readiness(False, f'{{"error":{{"message":"{MESSAGE}"}}}}')


def state(status: str, message: str = "", replicas: int = 0) -> ApplicationState:
    deployment = DeploymentState(
        name="ModelServer:b", status="UPDATING", message=message, replicas=replicas, target_replicas=1
    )
    return ApplicationState(status=status, deployments=(deployment,))


class FakeApplications:
    """Serve, with one application that has these states, one after another."""

    def __init__(self, *states: ApplicationState) -> None:
        self._states = list(states)
        self.is_deleted = False

    def state(self, name: str) -> ApplicationState:
        return self._states.pop(0) if len(self._states) > 1 else self._states[0]

    def delete_all(self) -> None:
        self.is_deleted = True


Start = Callable[..., tuple[ApplicationStart, list[str]]]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """A function that returns a start, and the lines that it reports."""

    def make(
        applications: FakeApplications, *answers: Readiness, timeout_s: float = 60
    ) -> tuple[ApplicationStart, list[str]]:
        lines: list[str] = []
        remaining = list(answers)

        def readiness() -> Readiness:
            return remaining.pop(0) if len(remaining) > 1 else remaining[0]

        watch = StartWatch(tmp_path)
        return ApplicationStart(applications, watch, readiness, lambda: None, lines.append, timeout_s), lines

    return make


def test_every_change_is_reported_once(start: Start) -> None:
    states = FakeApplications(state("DEPLOYING"), state("DEPLOYING"), state("RUNNING", replicas=1))
    wait, lines = start(states, NO_ANSWER, NO_ANSWER, NO_ANSWER, READY)
    wait.wait()
    assert lines == ["deployment: ModelServer:b 0/1", "deployment: ModelServer:b 1/1"]


def test_what_a_replica_waits_for_is_reported(start: Start) -> None:
    wait, lines = start(FakeApplications(state("DEPLOYING")), WAITING, WAITING, READY)
    wait.wait()
    assert lines == ["deployment: ModelServer:b 0/1", f"waiting: {MESSAGE}"]


def test_start_that_can_never_succeed_is_ended(start: Start) -> None:
    message = "The deployment failed to start 1 times:\nValueError: max_model_len is too large"
    applications = FakeApplications(state("DEPLOYING", message))
    wait, _ = start(applications, NO_ANSWER)
    with pytest.raises(InstanceError, match="cannot start: ModelServer:b: ValueError: max_model_len"):
        wait.wait()
    assert applications.is_deleted, "Serve would try again"


def test_failed_deployment_has_the_messages_of_serve(start: Start) -> None:
    wait, _ = start(FakeApplications(state("DEPLOY_FAILED", "no luck")), NO_ANSWER)
    with pytest.raises(InstanceError, match="no luck"):
        wait.wait()


def test_start_that_takes_too_long_ends_with_what_is_missing(start: Start) -> None:
    wait, _ = start(FakeApplications(state("DEPLOYING")), WAITING, timeout_s=0)
    with pytest.raises(InstanceError, match="0 of 1 free"):
        wait.wait()
