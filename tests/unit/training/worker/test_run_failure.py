"""The words for the end of a run that its users get: the classes of errors, and the messages of our own."""

import pytest
from ray.train import ControllerError, WorkerGroupError

from registry.errors import Unavailable
from training.worker.run_failure import failure_of

SECRET = "/home/somebody/weights"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (WorkerGroupError("failed", {0: FileNotFoundError(SECRET)}), "FileNotFoundError"),
        (
            WorkerGroupError("failed", {1: Unavailable("storage cannot be reached")}),
            "storage cannot be reached",
        ),
        (WorkerGroupError(SECRET, {}), "WorkerGroupError"),
        (ControllerError(ValueError(SECRET)), "ValueError"),
        (RuntimeError(SECRET), "RuntimeError"),
    ],
)
def test_failure_has_no_message_of_a_library(error: Exception, words: str) -> None:
    assert failure_of(error) == words
